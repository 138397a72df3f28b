//! Containers that belong together: started in order, stopped in reverse, and started again with those that rest on them.

use bosun_client::types::group::{
    GroupMember, GroupSpec, GroupStatus, GroupStrategy, MemberName, MemberRestart,
};
use bosun_client::types::relaunch::RestartIntensity;
use bosun_client::types::spec::{ContainerRequest, SpecOptions};
use bosun_client::{Client, ImageName, Result};

/// `image`: one that is here, with a shell.
pub async fn example(client: &Client, image: &ImageName) -> Result<()> {
    let namespace = client.default_namespace();
    let mut members = Vec::new();
    for name in ["example-store", "example-web"] {
        let spec = SpecOptions::default().args(["sleep", "1000"]);
        let request = ContainerRequest::of_image(name.parse()?, image.clone()).spec(spec);
        namespace.containers().create(request).await?;
        let name = MemberName::Container(name.parse()?);
        members.push(GroupMember { name, restart: MemberRestart::Permanent, shutdown_ms: 0 });
    }
    let intensity = RestartIntensity { restarts: 3, period_ms: 60_000 };
    let spec =
        GroupSpec { name: "example-shop".parse()?, strategy: GroupStrategy::RestForOne, intensity, members };
    let group = namespace.groups().get(namespace.groups().create(spec).await?.spec.name);

    group.start().await?;
    let info = group.info().await?;
    assert_eq!((info.status, info.members), (GroupStatus::Up, vec!["running".to_owned(); 2]));
    group.stop().await?;
    assert_eq!(group.info().await?.status, GroupStatus::Stopped);
    group.delete().await?;

    // Its members stay.
    for name in ["example-store", "example-web"] {
        let container = namespace.container(name.parse()?);
        container.task().delete().await?;
        container.delete(true).await?;
    }
    Ok(())
}
