//! A person at a terminal: a program of ours on a pty, what is typed and what is seen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::world::wait_until;

/// A program on a terminal of its own.
pub struct Person {
    program: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Person {
    /// Starts it there.
    pub fn at(command: Command) -> Self {
        Self::on(openpty(None, None).expect("a terminal"), command)
    }

    /// On a terminal so many characters wide.
    pub fn with_columns(columns: u16, command: Command) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Self::on(openpty(Some(&size), None).expect("a terminal"), command)
    }

    fn on(pty: OpenptyResult, mut command: Command) -> Self {
        let end = |end: &OwnedFd| Stdio::from(end.try_clone().expect("a descriptor"));
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let program = command.spawn().expect("starts");
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) =
            (File::from(pty.master.try_clone().expect("a descriptor")), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let (mut buffer, mut bytes) = ([0; 4096], Vec::new());
            // The last of the other ends to go makes this fail.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..length]);
                // A character may have come in part.
                *shown.lock().unwrap_or_else(PoisonError::into_inner) =
                    String::from_utf8_lossy(&bytes).into_owned();
            }
        });
        drop(command);
        Self { program, keyboard: File::from(pty.master), screen, reader }
    }

    /// Presses keys.
    pub fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("types");
    }

    /// Everything that was written to the terminal so far.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this was written.
    pub fn sees(&self, text: &str) {
        wait_until(text, || self.screen().contains(text));
    }

    /// Waits for its end; its code.
    pub fn code(self) -> Option<i32> {
        self.ended().0
    }

    /// The same, and everything that was written.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = self.program.wait().expect("ends").code();
        drop(self.keyboard);
        self.reader.join().expect("reads to the end");
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (code, screen)
    }
}

/// What was written on a terminal of so many columns, without the words that move the cursor and colour; each line that was drawn over is one of its own.
pub fn plain_lines(screen: &str, columns: u16) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    let mut characters = screen.chars();
    while let Some(character) = characters.next() {
        let ends = match character {
            // ESC [ numbers letter; a colour moves nothing.
            '\x1b' => {
                characters.next() == Some('[')
                    && characters.by_ref().find(char::is_ascii_alphabetic) != Some('m')
            }
            '\r' | '\n' => true,
            other => {
                line.push(other);
                // What is padded to the whole width goes on in the next row without being told.
                line.chars().count() == usize::from(columns)
            }
        };
        if ends {
            lines.push(std::mem::take(&mut line));
        }
    }
    lines.push(line);
    let lines = lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}
