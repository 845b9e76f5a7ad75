use super::*;
use crate::chain::Chain;
use crate::chain::fixture::{World, at, memory};
use crate::store::faulty::FaultyStore;

#[test]
fn a_new_store_is_pinned_and_readable_at_once() {
    let world = World::new();
    assert_eq!(
        world.list(""),
        ["chain/00000000000000000000.json", "checkpoint", "format", "root/1.json", "tile/0/000.p/1"]
    );
    assert_eq!(world.trust.pinned(world.store.url()).unwrap(), Some(world.pin().root));
    let chain = world.open();
    assert_eq!((chain.head().unwrap().head.seq, chain.id()), (0, world.made.chain));
    assert!(world.made.owner_key.exists() && world.made.node_key.exists() && !world.made.resumed);
}

#[test]
fn a_store_with_a_chain_or_its_remains_is_refused_and_untouched() {
    let world = World::new();
    let before = world.list("");
    let found = |world: &World| match init(&world.store, &world.trust, "node-b", at(1)) {
        Err(InitError::Exists { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&world), "root/1.json");
    assert_eq!(world.list(""), before);
    world.store.delete("root/1.json").unwrap();
    assert_eq!(found(&world), "chain/00000000000000000000.json");
}

#[test]
fn a_run_stopped_after_any_operation_is_completed_with_the_same_keys() {
    for stop in 0..12 {
        let store = memory();
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDir::new(directory.path(), &directory.path().join("cache"));
        let first = init(&FaultyStore::new(&store).stop_after(stop), &trust, "node-a", at(0));
        let begun: Vec<PathBuf> = keyfile::list(&directory.path().join("keys")).unwrap();
        let Ok(made) = first.or_else(|_| init(&store, &trust, "node-a", at(9))) else {
            panic!("stopped after {stop}");
        };
        let keys = keyfile::list(&directory.path().join("keys")).unwrap();
        assert_eq!(keys.len(), 2, "stopped after {stop}");
        assert!(begun.is_empty() || begun == keys, "stopped after {stop}");
        assert_eq!(trust.pending(store.url()).unwrap(), None);
        let chain = Chain::open(&store, made.bootstrap.pin, &trust, at(10)).unwrap();
        assert_eq!(chain.head().unwrap().head.seq, 0, "stopped after {stop}");
    }
}
