//! Who holds which slots, and which shard of ours that makes. Pure.
//!
//! A shard is a number of this node's own: a primary and, after a failover, the one that took its slots over. So what a bridge
//! knows of its rooms outlives the primary; only slots that move between primaries make rooms move between shards.

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc};

use super::slots::{SLOTS, slot_of};

/// A Redis process that holds slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primary {
    /// What the cluster calls it, for as long as it lives.
    pub id: Arc<str>,
    pub host: String,
    pub port: u16,
}

/// What one node of the cluster says of the primaries that hold slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View(Vec<Claim>);

#[derive(Debug, PartialEq, Eq)]
struct Claim {
    primary: Primary,
    /// Of two that claim a slot, the later epoch is right: that is how the cluster itself decides.
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
}

impl View {
    /// Reads the answer to CLUSTER NODES. A node that does not know its own address means the one that was `asked`.
    /// `by_name`: where nodes announce host names, those count, as certificates are made out to them.
    pub fn read(answer: &str, asked: &str, by_name: bool) -> Option<Self> {
        let claims = answer.lines().map(|line| read_claim(line, asked, by_name)).collect::<Option<Vec<_>>>()?;
        let claims: Vec<_> = claims.into_iter().filter(|claim| !claim.slots.is_empty()).collect();
        (!claims.is_empty()).then_some(Self(claims))
    }
}

/// `id ip:port@bus[,hostname[,…]] flags primary ping pong epoch link slot…`
fn read_claim(line: &str, asked: &str, by_name: bool) -> Option<Claim> {
    let mut words = line.split(' ');
    let (id, place) = (words.next()?, words.next()?);
    let epoch = words.nth(4)?.parse().ok()?;
    let slots = words.skip(1).filter(|word| !word.starts_with('[')).map(read_range).collect::<Option<_>>()?;
    let mut places = place.split(',');
    let (host, port) = places.next()?.split('@').next()?.rsplit_once(':')?;
    let name = places.next().filter(|name| by_name && !name.is_empty() && !name.contains('='));
    let host = name.unwrap_or(if host.is_empty() { asked } else { host }).to_owned();
    Some(Claim { primary: Primary { id: id.into(), host, port: port.parse().ok()? }, epoch, slots })
}

fn read_range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (last < SLOTS).then_some(first..=last)
}

/// Which shard holds each slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(Arc<[usize]>);

impl Layout {
    /// The shard of a channel or key.
    pub fn shard_of(&self, name: &str) -> usize {
        self.0[usize::from(slot_of(name))]
    }

    pub(super) fn holds_any(&self, shard: usize) -> bool {
        self.0.contains(&shard)
    }
}

/// The shards, as this node counts them.
#[derive(Debug)]
pub(super) struct Shards {
    layout: Layout,
    /// Who each of them is now; nobody while that isn't known, and where it has no slots any more.
    primaries: Vec<Option<Primary>>,
    /// Who was last known to hold each slot, and since which epoch.
    holders: Vec<Option<(Arc<str>, u64)>>,
}

impl Shards {
    /// Before anything is known, one shard stands for all.
    pub fn unknown() -> Self {
        let slots = usize::from(SLOTS);
        Self { layout: Layout(vec![0; slots].into()), primaries: vec![None], holders: vec![None; slots] }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn len(&self) -> usize {
        self.primaries.len()
    }

    pub fn primary(&self, shard: usize) -> Option<&Primary> {
        self.primaries.get(shard)?.as_ref()
    }

    pub fn primaries(&self) -> impl Iterator<Item = &Primary> {
        self.primaries.iter().flatten()
    }

    pub fn find(&self, host: &str, port: u16) -> Option<usize> {
        self.primaries.iter().position(|primary| primary.as_ref().is_some_and(|primary| primary.host == host && primary.port == port))
    }

    /// Takes a view over; true if anything is otherwise than before. The view may be older than what is known, and slots that
    /// nobody claims stay where they were.
    pub fn apply(&mut self, view: &View) -> bool {
        self.believe(view);
        let mut primaries = self.primaries.clone();
        let holding: HashSet<&str> = self.holders.iter().flatten().map(|(id, _)| &**id).collect();
        let present: Vec<_> = view.0.iter().map(|claim| &claim.primary).filter(|primary| holding.contains(&*primary.id)).collect();
        for known in &mut primaries {
            let is_holding = known.as_ref().is_some_and(|known| holding.contains(&*known.id));
            if !is_holding {
                *known = None;
            }
        }
        for primary in present {
            let known = primaries.iter().position(|known| known.as_ref().is_some_and(|known| known.id == primary.id));
            match known.or_else(|| self.vacancy(&primary.id, |shard| primaries[shard].is_none())) {
                Some(shard) => primaries[shard] = Some(primary.clone()),
                None => primaries.push(Some(primary.clone())),
            }
        }
        let shard_of = |id: &str| primaries.iter().position(|primary| primary.as_ref().is_some_and(|primary| *primary.id == *id));
        let slots = self.layout.0.iter().zip(&self.holders);
        let layout: Vec<usize> =
            slots.map(|(before, holder)| holder.as_ref().and_then(|(id, _)| shard_of(id)).unwrap_or(*before)).collect();
        let is_new = primaries != self.primaries || *self.layout.0 != *layout;
        (self.primaries, self.layout) = (primaries, Layout(layout.into()));
        is_new
    }

    fn believe(&mut self, view: &View) {
        let present: HashSet<&str> = view.0.iter().map(|claim| &*claim.primary.id).collect();
        for holder in &mut self.holders {
            // Who is not even mentioned any more was taken out, or holds nothing.
            holder.take_if(|(id, _)| !present.contains(&**id));
        }
        for Claim { primary, epoch, slots } in &view.0 {
            for slot in slots.iter().cloned().flatten() {
                let holder = &mut self.holders[usize::from(slot)];
                if holder.as_ref().is_none_or(|(id, since)| *id == primary.id || since <= epoch) {
                    *holder = Some((Arc::clone(&primary.id), *epoch));
                }
            }
        }
    }

    /// The vacant shard that has held the most of its slots, or else any that has none.
    fn vacancy(&self, id: &str, is_vacant: impl Fn(usize) -> bool) -> Option<usize> {
        let mut held = vec![0usize; self.primaries.len()];
        let slots = self.layout.0.iter().zip(&self.holders);
        slots.filter(|(_, holder)| holder.as_ref().is_some_and(|(known, _)| **known == *id)).for_each(|(shard, _)| held[*shard] += 1);
        let vacant = || (0..held.len()).filter(|shard| is_vacant(*shard));
        let heir_of = vacant().filter(|shard| held[*shard] > 0).max_by_key(|shard| held[*shard]);
        heir_of.or_else(|| vacant().find(|shard| !self.layout.holds_any(*shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(id: &str) -> Primary {
        Primary { id: id.into(), host: id.to_owned(), port: 7000 }
    }

    fn view(claims: &[(&str, u64, &[RangeInclusive<u16>])]) -> View {
        View(claims.iter().map(|(id, epoch, slots)| Claim { primary: primary(id), epoch: *epoch, slots: slots.to_vec() }).collect())
    }

    const LAST: u16 = SLOTS - 1;

    fn three() -> Shards {
        let mut shards = Shards::unknown();
        assert!(shards.apply(&first()));
        shards
    }

    fn first() -> View {
        view(&[("a", 1, &[0..=4999]), ("b", 2, &[5000..=9999]), ("c", 3, &[10_000..=LAST])])
    }

    fn who(shards: &Shards) -> Vec<Option<&str>> {
        shards.primaries.iter().map(|primary| primary.as_ref().map(|primary| &*primary.id)).collect()
    }

    fn at(shards: &Shards, slot: u16) -> usize {
        shards.layout.0[usize::from(slot)]
    }

    #[test]
    fn the_first_view_fills_the_shard_that_stood_for_all() {
        let mut shards = three();
        assert_eq!((who(&shards), at(&shards, 0), at(&shards, LAST)), (vec![Some("a"), Some("b"), Some("c")], 0, 2));
        assert!(!shards.apply(&first()), "nothing is new");
    }

    #[test]
    fn a_replica_that_takes_over_is_the_same_shard() {
        let mut shards = three();
        assert!(shards.apply(&view(&[("a", 1, &[0..=4999]), ("replica", 4, &[5000..=9999]), ("c", 3, &[10_000..=LAST])])));
        assert_eq!((who(&shards), at(&shards, 5000)), (vec![Some("a"), Some("replica"), Some("c")], 1));
    }

    #[test]
    fn a_slot_that_moves_changes_its_shard_and_no_other_and_a_node_that_has_not_heard_moves_nothing_back() {
        let mut shards = three();
        let moved = view(&[("a", 1, &[0..=4999]), ("b", 2, &[5001..=9999]), ("c", 4, &[5000..=5000, 10_000..=LAST])]);
        assert!(shards.apply(&moved));
        assert_eq!((at(&shards, 5000), at(&shards, 5001)), (2, 1));
        assert!(!shards.apply(&first()), "it is an old view");
        assert!(!shards.apply(&moved));
    }

    #[test]
    fn a_new_primary_is_a_new_shard_and_one_without_slots_makes_room() {
        let mut shards = three();
        let (a, b) = (("a", 1, &[0..=4999u16] as &[_]), ("b", 2, &[5000..=9999u16] as &[_]));
        shards.apply(&view(&[a, b, ("c", 3, &[10_000..=15_000]), ("d", 4, &[15_001..=LAST])]));
        assert_eq!((who(&shards).len(), at(&shards, LAST)), (4, 3));
        let (a, c) = (("a", 5, &[0..=9999u16] as &[_]), ("c", 3, &[10_000..=15_000u16] as &[_]));
        shards.apply(&view(&[a, c, ("d", 4, &[15_001..=LAST])]));
        assert_eq!((who(&shards)[1], at(&shards, 5000)), (None, 0));
        shards.apply(&view(&[a, c, ("d", 4, &[15_001..=16_000]), ("e", 6, &[16_001..=LAST])]));
        assert_eq!((who(&shards)[1], at(&shards, LAST)), (Some("e"), 1), "it is used again");
    }

    #[test]
    fn slots_without_a_holder_stay_where_they_were() {
        let mut shards = three();
        assert!(shards.apply(&view(&[("a", 1, &[0..=4999]), ("c", 3, &[10_000..=LAST])])));
        assert_eq!((who(&shards)[1], at(&shards, 5000)), (None, 1));
        shards.apply(&view(&[("a", 1, &[0..=4999]), ("replica", 4, &[5000..=9999]), ("c", 3, &[10_000..=LAST])]));
        assert_eq!((who(&shards)[1], at(&shards, 5000)), (Some("replica"), 1));
    }

    #[test]
    fn what_a_node_answers_is_read() {
        let text = "aa 127.0.0.1:7001@17001 myself,master - 0 1732400000000 7 connected 0-1 5 [93-<-bb]\n\
                    bb 10.0.0.2:7002@17002,b.example slave aa 0 0 7 connected\n\
                    cc :7003@17003,c.example,shard-id=x master - 0 0 9 connected 6-16383\n";
        let hosts = |by_name| View::read(text, "asked", by_name).unwrap().0.into_iter().map(|claim| claim.primary.host).collect::<Vec<_>>();
        assert_eq!((hosts(false), hosts(true)), (vec!["127.0.0.1".into(), "asked".into()], vec!["127.0.0.1".into(), "c.example".into()]));
        let View(claims) = View::read(text, "asked", false).unwrap();
        assert_eq!((claims[0].epoch, claims[0].slots.clone(), claims[1].primary.port), (7, vec![0..=1, 5..=5], 7003));
        assert_eq!(View::read("aa 127.0.0.1:7001@17001 myself,master - 0 0 0 connected\n", "asked", false), None, "it knows of no slots");
        assert_eq!(View::read("ERR", "asked", false), None);
        assert_eq!(View::read("aa 127.0.0.1:7001@17001 master - 0 0 1 connected 0-99999", "asked", false), None);
    }
}
