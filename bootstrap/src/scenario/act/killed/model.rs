//! A group that is a model: members that promote, serve and step down in moments, and an ingress with a file.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Promoting,
    Serving,
    Demoting,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    pub(super) dead: bool,
    pub(super) paused: Option<String>,
    pub(super) drained: Option<String>,
    pub(super) demoted: Option<String>,
    pub(super) handed_off: bool,
    /// The last term in which it led, and the last one that it gave up in order.
    pub(super) led: Option<u64>,
    pub(super) ended: Option<u64>,
}

/// A moment of a term.
pub(super) fn at(term: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(term).unwrap()).unwrap()
}

impl Member {
    /// The same, with nothing that a person asked for.
    pub(super) fn free(&self) -> Self {
        Self { led: self.led, ended: self.ended, ..Self::default() }
    }

    pub(super) fn is_free(&self) -> bool {
        self.paused.is_none() && self.drained.is_none() && self.demoted.is_none()
    }
}

/// What goes on whether an orchestrator lives or not.
pub(super) struct World {
    pub(super) members: BTreeMap<&'static str, Member>,
    pub(super) lease: Option<(&'static str, Phase)>,
    pub(super) holder: &'static str,
    pub(super) term: u64,
    /// The first upstream that the ingress has loaded.
    pub(super) loaded: String,
    pub(super) changes: usize,
    pub(super) kill: Kill,
    /// Where the one before was killed.
    pub(super) killed: Kill,
    pub(super) looks: u32,
}

/// A group of three with an ingress.
pub(super) struct Model {
    pub(super) inventory: Inventory,
    pub(super) leadership: Leadership,
    /// The ingress leads to whoever leads; otherwise only to the first of its file.
    pub(super) finds: bool,
    pub(super) world: RefCell<World>,
    pub(super) place: TempDir,
}

impl World {
    /// A moment passes.
    pub(super) fn tick(&mut self, leadership: Leadership) {
        self.lease = match self.lease {
            Some((node, _)) if self.members[node].dead => None,
            Some((node, Phase::Demoting)) => {
                self.members.get_mut(node).unwrap().ended = Some(self.term);
                None
            }
            Some((node, _)) => Some((node, Phase::Serving)),
            None if leadership == Leadership::Auto => {
                // Whoever may lead does; the last one, who is nobody's first choice.
                let may = |member: &Member| !member.dead && !member.handed_off && member.is_free();
                let next = NODES.into_iter().rev().find(|node| may(&self.members[node]));
                next.map(|node| self.claim(node))
            }
            None => None,
        };
    }

    pub(super) fn claim(&mut self, node: &'static str) -> (&'static str, Phase) {
        self.term += 1;
        self.holder = node;
        let member = self.members.get_mut(node).unwrap();
        (member.led, member.ended) = (Some(self.term), None);
        (node, Phase::Promoting)
    }

    pub(super) fn changed(&mut self) {
        self.changes += 1;
        if self.kill == Kill::Change(self.changes) {
            die();
        }
    }

    pub(super) fn serves(&self) -> Option<&'static str> {
        self.lease.filter(|(node, phase)| *phase == Phase::Serving && !self.members[node].dead).map(|(node, _)| node)
    }
}

pub(super) fn name(node: &str) -> &'static str {
    NODES.into_iter().find(|known| *known == node).expect("a node of the model")
}

pub(super) fn ended(stdout: String) -> Ended {
    Ended { status: Some(ExitStatus::from_raw(0)), stdout, stderr: String::new() }
}

impl Model {
    /// `leader` leads; with `lost` it is dead, and the ingress still leads there.
    pub(super) fn new(leadership: Leadership, leader: &'static str, lost: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("app.conf");
        fs::write(&config, "server 10.0.0.1:80;\nserver 10.0.0.2:80;\nserver 10.0.0.3:80;\n").unwrap();
        let node = |(number, name): (usize, &str)| {
            let preferred = if number == 0 { "leader" } else { "follower" };
            let service = format!("http://10.0.0.{}:80/", number + 1);
            format!("[[node]]\nname = \"{name}\"\npreferred = \"{preferred}\"\nservice = \"{service}\"\nreach = []\n")
        };
        let nodes: String = NODES.into_iter().enumerate().map(node).collect();
        let text = format!(
            "name = \"model\"\n[ingress]\nurl = \"http://app.example/\"\nconfig = \"{}\"\nvalidate = [\"validate\"]\n\
             reload = [\"reload\"]\nreach = []\n{nodes}",
            config.display()
        );
        let mut members: BTreeMap<&str, Member> = NODES.into_iter().map(|node| (node, Member::default())).collect();
        members.get_mut(leader).unwrap().dead = lost;
        let world = World {
            members,
            lease: Some((leader, Phase::Serving)),
            holder: leader,
            term: 7,
            loaded: "a".to_owned(),
            changes: 0,
            kill: Kill::Never,
            killed: Kill::Never,
            looks: 0,
        };
        let inventory = inventory::parse(&text).unwrap();
        Self { inventory, leadership, finds: !lost, world: RefCell::new(world), place }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.place.path().join("app.conf")
    }

    pub(super) fn view(&self, node: &'static str) -> View {
        let world = self.world.borrow();
        let member = &world.members[node];
        let (mode, like) = match world.lease {
            Some((by, Phase::Serving)) if by == node && member.drained.is_some() => (Mode::Draining, "draining"),
            Some((by, Phase::Serving)) if by == node => (Mode::Leader, "leader"),
            Some((by, Phase::Promoting)) if by == node => (Mode::Promoting, "promoting"),
            Some((by, Phase::Demoting)) if by == node => (Mode::Demoting, "demoting"),
            _ if member.paused.is_some() => (Mode::Paused, "paused"),
            _ if self.leadership == Leadership::Static || member.handed_off || member.demoted.is_some() => {
                (Mode::Follower, "follower")
            }
            _ => (Mode::Candidate, "candidate"),
        };
        let mut view = EXAMPLES.with(|examples| examples[like].clone());
        view.mode = mode;
        view.node = node.to_owned();
        view.instance = format!("instance-{node}");
        view.term = world.term;
        view.holder = Some(Holder {
            node: world.holder.to_owned(),
            instance: format!("instance-{}", world.holder),
            term: world.term,
            api: None,
            since: None,
            released: world.lease.is_none(),
        });
        (view.paused, view.drained) = (member.paused.clone(), member.drained.clone());
        view.demoted = member.demoted.clone();
        view.saves = true;
        view.ended = member.ended.map(|term| EndedView { term, stopped: at(term), saved: Some(at(term)) });
        view.takeover = member.led.map(|term| TakeoverView {
            term,
            claimed: at(term),
            ready: Some(at(term)),
            snapshot: format!("snap-{term}"),
            // The last snapshot of the term before.
            captured: at(term - 1),
            lost_seconds: 0,
            phases: Vec::new(),
        });
        if self.leadership == Leadership::Static {
            view.lease.mode = Some("static".to_owned());
        }
        view
    }

    pub(super) fn sight(&self, ingress_driver: bool) -> Sight {
        let seen = |node: &str| Seen {
            name: node.to_owned(),
            preferred: node == "a",
            state: self.state(node).ok(),
            silence: None,
        };
        Sight { ingress_driver, ..sight(NODES.into_iter().map(seen).collect()) }
    }

    pub(super) fn plan(&self, scenario: &str, ingress_driver: bool) -> Plan {
        let parsed = builtin::scenario(scenario, &Deeds).unwrap().unwrap();
        let wish = Wish { id: format!("{scenario}-1"), ..wish() };
        let text = builtin::text(scenario).unwrap();
        let mut plan = resolve(&parsed, text, &self.sight(ingress_driver), &wish).unwrap();
        // An ingress that finds the leader by itself is waited for by the clock; that of the model never does.
        plan.steps.iter_mut().filter(|step| step.id == "ingress-swap").for_each(|step| step.timeout_seconds = 0);
        plan.sealed()
    }

    pub(super) fn pass(&self, moments: u32) {
        (0..moments).for_each(|_| self.world.borrow_mut().tick(self.leadership));
    }
}

thread_local! {
    /// Parsed once: they are copied for every look.
    static EXAMPLES: BTreeMap<String, View> = examples::all().into_iter().collect();
}

impl Field for Model {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn state(&self, node: &str) -> Result<State, String> {
        let node = name(node);
        if self.world.borrow().members[node].dead {
            return Err("no answer".to_owned());
        }
        let reading = Reading { view: self.view(node), ticked_ago: Duration::ZERO };
        Ok(State::of(reading, &Limits::default(), "/srv/node", examples::now()))
    }

    fn request(&self, node: &str, kind: RequestKind, reason: &str) -> Result<Asked, String> {
        let (node, reason) = (name(node), Some(reason.to_owned()));
        let mut world = self.world.borrow_mut();
        if world.members[node].dead {
            return Err("no answer".to_owned());
        }
        let serving = world.serves();
        let is_static = self.leadership == Leadership::Static;
        let demoting = world.lease == Some((node, Phase::Demoting));
        let member = world.members.get_mut(node).unwrap();
        match kind {
            RequestKind::Drain => member.drained = reason,
            RequestKind::Pause => member.paused = reason,
            RequestKind::Resume => *member = member.free(),
            RequestKind::Handoff if is_static || serving != Some(node) => {
                return Ok(Asked::Refused("it does not lead".to_owned()));
            }
            RequestKind::Handoff => {
                member.handed_off = true;
                world.lease = Some((node, Phase::Demoting));
            }
            RequestKind::Demote => {
                member.demoted = reason;
                if world.lease.is_some_and(|(by, _)| by == node) {
                    world.lease = Some((node, Phase::Demoting));
                }
            }
            RequestKind::Promote if demoting => return Ok(Asked::Refused("it is demoting".to_owned())),
            RequestKind::Promote if serving != Some(node) => {
                assert!(is_static, "nobody is promoted where a lease decides");
                assert_eq!(serving, None, "{node} is made to lead while another one does");
                *member = member.free();
                let claimed = world.claim(node);
                world.lease = Some(claimed);
            }
            RequestKind::Promote => {}
            RequestKind::ForceClaim => panic!("no scenario claims by force"),
        }
        world.changed();
        Ok(Asked::Accepted("done".to_owned()))
    }

    fn run(&self, _: Option<&str>, argv: &[String], _: Duration) -> Result<Ended, String> {
        panic!("no scenario runs {argv:?}")
    }

    fn at_ingress(&self, args: &[String], stdin: &[u8], _: Duration) -> Result<Ended, String> {
        let path = Path::new(&args[2]);
        if args[1] == "read" {
            let read = File::read(path).map_err(|error| error.to_string())?;
            return Ok(ended(serde_json::to_string(&read).unwrap()));
        }
        let (text, expected) = (std::str::from_utf8(stdin).unwrap(), args[4].parse().unwrap());
        let replaced =
            File::replace(path, expected, text, args[6].parse().unwrap()).map_err(|error| error.to_string())?;
        self.world.borrow_mut().changed();
        Ok(ended(serde_json::to_string(&replaced).unwrap()))
    }

    fn run_at_ingress(&self, argv: &[String], _: Duration) -> Result<Ended, String> {
        if argv[0] == "reload" {
            let text = fs::read_to_string(self.config()).unwrap();
            let first = NODES
                .into_iter()
                .enumerate()
                .find(|(number, _)| text.starts_with(&format!("server 10.0.0.{}:", number + 1)));
            let mut world = self.world.borrow_mut();
            world.loaded = first.map(|(_, node)| node.to_owned()).unwrap();
            world.changed();
        }
        Ok(ended(String::new()))
    }

    fn probe(&self, expect: Option<&str>, skip: &[&str]) -> Result<ProbeReport, String> {
        let asked = NODES.into_iter().filter(|node| !skip.contains(node));
        let surfaces: Vec<Surface> = asked.map(|node| surface(node, self.state(node).ok().as_ref())).collect();
        let leaders: Vec<&str> = (surfaces.iter())
            .filter(|surface| surface.is == Some(Role::Leader))
            .map(|surface| surface.name.as_str())
            .collect();
        let good = leaders.len() == 1
            && expect.is_none_or(|expect| leaders[0] == expect)
            && surfaces.iter().all(|surface| matches!(surface.is, Some(Role::Leader | Role::Follower)));
        Ok(ProbeReport {
            fleet: "model".to_owned(),
            inventory: self.inventory.digest(),
            vantage: "here".to_owned(),
            at: examples::now(),
            expected_leader: expect.map(str::to_owned),
            surfaces,
            control: None,
            own_identity: false,
            assertions: Vec::new(),
            passed: 1,
            failed: usize::from(!good),
            skipped: 0,
            verdict: if good { Probed::Passed } else { Probed::Failed },
            warnings: Vec::new(),
            explanations: Vec::new(),
            vantages: Vec::new(),
        })
    }

    fn ingress(&self) -> Result<String, String> {
        let world = self.world.borrow();
        match world.serves().filter(|node| self.finds || *node == world.loaded) {
            Some(node) => Ok(node.to_owned()),
            None => Err("status 503".to_owned()),
        }
    }

    fn port(&self, node: &str) -> Port {
        let serves = self.world.borrow().lease.is_some_and(|(by, _)| by == node);
        match serves && !self.world.borrow().members[name(node)].dead {
            true => Port::Open,
            false => Port::Closed("refused".to_owned()),
        }
    }

    fn work(&self, _: &str) -> Result<Option<u64>, String> {
        Ok(Some(0))
    }

    fn up(&self, _: &str, _: Duration) -> Result<String, String> {
        panic!("no scenario starts an agent")
    }

    fn down(&self, _: &str, _: Duration) -> Result<String, String> {
        panic!("no scenario ends an agent")
    }

    fn pause(&self) {
        let mut world = self.world.borrow_mut();
        world.looks += 1;
        assert!(
            world.looks < FOR_EVER,
            "something is waited for that never comes, killed at {:?}: {:?} holds the lease: {:#?}",
            world.killed,
            world.lease,
            world.members
        );
        world.tick(self.leadership);
    }
}

pub(super) fn surface(node: &str, state: Option<&State>) -> Surface {
    let is = state.map(|state| match state.leader.ok {
        true => Role::Leader,
        false if state.role == "standby" => Role::Follower,
        false => Role::Other(state.role.clone()),
    });
    Surface {
        name: node.to_owned(),
        of: Of::Node,
        url: None,
        skipped: None,
        health: Default::default(),
        ready: Default::default(),
        role: Default::default(),
        is,
        who: Who::default(),
        service: None,
        ips: Vec::new(),
        certificates: Vec::new(),
    }
}
