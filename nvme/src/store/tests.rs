//! The store where the host refuses something.

use super::*;

const SIZE: u64 = 64 << 10;

fn open(folder: &Path) -> (Store, Vec<Entry>) {
    let config = NamespaceStore {
        path: folder.join("store"),
        capacity: 16 * SIZE,
    };
    let (store, found) = Store::open(&config).unwrap();
    (store, found.into_iter().map(|(entry, _)| entry).collect())
}

fn refuse(_: &Path) -> io::Result<()> {
    Err(ErrorKind::Other.into())
}

fn files(store: &Store) -> usize {
    let files = fs::read_dir(&store.folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".raw"))
        .count()
}

#[test]
fn a_list_that_was_replaced_counts_also_where_its_name_is_not_on_stable_storage() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    drop(store.create(1, SIZE, 512).unwrap());
    drop(store.create(2, SIZE, 512).unwrap());
    store.sync = refuse;
    store.delete(1).unwrap();
    store.set_block_size(2, 4096).unwrap();
    store.set_attached(2, true).unwrap();
    assert_eq!(store.unallocated(), 15 * SIZE);
    assert_eq!(
        files(&store),
        2,
        "an older list may come back that names it"
    );
    drop(store);

    let (store, found) = open(folder.path());
    let [entry] = found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (entry.id, entry.block_size, entry.attached),
        (2, 4096, true)
    );
    assert_eq!(files(&store), 1);
}

#[test]
fn a_list_that_cannot_be_replaced_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    drop(store.create(1, SIZE, 512).unwrap());
    // Where the new list would be made.
    let in_the_way = store.folder.join("namespaces.json.new");
    fs::create_dir(&in_the_way).unwrap();
    assert!(store.delete(1).is_err());
    assert!(store.set_attached(1, true).is_err());
    assert_eq!((store.unallocated(), files(&store)), (15 * SIZE, 1));
    drop(store);
    let (_, found) = open(folder.path());
    assert!(matches!(found[..], [entry] if entry.id == 1 && !entry.attached));
}
