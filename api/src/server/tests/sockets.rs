//! The socket that the API is served on.

use super::*;

#[test]
fn the_socket_is_for_its_owner_only_and_goes_with_the_server() {
    let mut bench = Bench::new();
    let file = std::fs::metadata(&bench.path).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        bench.server.as_ref().unwrap().path(),
        Some(bench.path.as_path())
    );
    bench.client.ping().unwrap();
    bench.server.take().unwrap().stop();
    assert!(!bench.path.exists());
    assert!(matches!(
        bench.client.ping(),
        Err(ClientError::Connect { .. })
    ));
}

#[test]
fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let owner = Arc::new(Owner::default());
    let go = |path: &Path| start(listen(path), owner.clone(), Arc::new(EventLog::new()));

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket");
    let server = go(&path).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();

    assert!(matches!(go(&path), Err(ServerError::InUse(_))));
    assert_eq!(
        std::fs::metadata(&path).unwrap().ino(),
        inode,
        "the live one is untouched"
    );
    Client::new(&path).ping().unwrap();

    // Another's socket in its place is not removed.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    server.stop();
    assert!(path.exists());

    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(go(&file), Err(ServerError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(matches!(
        go(&directory.path().join("none/api.sock")),
        Err(ServerError::Socket { .. })
    ));
    assert!(go(&directory.path().join("x".repeat(200))).is_err());
}

#[test]
fn a_socket_can_be_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let config = ServerConfig {
        listen: Listen::Inherited(listener.into()),
    };
    let server = start(
        config,
        Arc::new(Owner::default()),
        Arc::new(EventLog::new()),
    )
    .unwrap();
    Client::new(&path).ping().unwrap();
    server.stop();
    assert!(path.exists(), "it is its maker's to remove");

    let (one, _other) = UnixStream::pair().unwrap();
    let config = ServerConfig {
        listen: Listen::Inherited(one.into()),
    };
    let started = start(
        config,
        Arc::new(Owner::default()),
        Arc::new(EventLog::new()),
    );
    assert!(matches!(started, Err(ServerError::Inherited(_))));
}
