#!/bin/sh
# Puts CRIU of Debian's unstable suite, with the libraries it wants, into a directory of its own, and prints the path of a program that runs it
# from there. Nothing of the host's packages is touched: apt works with its own configuration, lists and cache, and packages are only
# unpacked. Why: the CRIU of Debian 12 does not work on newer kernels.
#
#   fetch.sh DIRECTORY
#
# Once fetched it is used from there. Several may ask at once. Fails, with the reason, where it cannot be had.
set -eu
mkdir -p "$1"
directory=$(cd "$1" && pwd)
program=$directory/criu
exec 9>"$directory/lock"
flock 9
if [ -x "$program" ]; then
    echo "$program"
    exit 0
fi

# The mirror that this machine uses anyway.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian //p' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "apt has no mirror of Debian" >&2; exit 1; }

apt=$directory/apt
rm -rf "$apt" "$directory/root"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$directory/root"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONFIGURATION
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::preferencesparts "$apt/parts";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
CONFIGURATION
export APT_CONFIG="$apt/apt.conf"
apt-get -qq update >&2
apt-get -qq -y --download-only install criu >&2
for package in "$apt"/cache/archives/*.deb; do
    dpkg -x "$package" "$directory/root"
done
rm -rf "$apt"

# Its own loader and C library: the host's may be older.
loader=$(find "$directory/root/usr" -name 'ld-linux*.so.*' | head -n 1)
libraries=$(dirname "$(find "$directory/root/usr/lib" -name libc.so.6 | head -n 1)")
[ -x "$directory/root/usr/sbin/criu" ] && [ -n "$loader" ] || { echo "the packages have no criu" >&2; exit 1; }
cat >"$program.new" <<PROGRAM
#!/bin/sh
exec '$loader' --library-path '$libraries' '$directory/root/usr/sbin/criu' "\$@"
PROGRAM
chmod 755 "$program.new"
"$program.new" check >&2
mv "$program.new" "$program"
echo "$program"
