//! A drill in the demo's world: gone through, broken in one way, and done; what its evidence says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::client::Client;
use bootstrap::drill::deeds;
use bootstrap::drill::demo::{NODES, Settings, World};
use serde_json::Value;
use tempfile::TempDir;

use crate::gate::{Gate, Passage};
use crate::group::TTL_SECONDS;
use crate::{Run, binary};

/// How long something is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

/// A world in which node `a` leads, `b` and `c` are not up yet, and a drill can be done.
pub struct Stage {
    /// The world.
    pub world: World,
    /// A step of the next drills that is to fail, and after how many seconds it does.
    pub hurry: Option<(&'static str, u64)>,
    _place: TempDir,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Stage {
    /// A stage in a world with something changed.
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(change, |_| {})
    }

    /// The same, with something done before the first node is brought up.
    pub fn with(change: impl FnOnce(&mut Settings), before: impl FnOnce(&mut World)) -> Self {
        // Sockets have short paths: the directory for temporary files of the system, whatever the environment says.
        let place = tempfile::Builder::new().prefix("drill-").tempdir_in("/tmp").unwrap();
        let mut settings = settings(&place);
        change(&mut settings);
        let mut world = World::make(settings, Box::new(|_| {})).unwrap();
        before(&mut world);
        world.start_ingress().unwrap();
        world.bring_up("a").unwrap();
        until("a leads", || world.wait_leads("a").ok());
        world.prepare("b").unwrap();
        world.prepare("c").unwrap();
        patient(&world.inventory().unwrap());
        Self { world, hurry: None, _place: place }
    }

    /// A stage on which `b` follows already. The inventory knows how `a` is cut off from everybody but who is on its machine,
    /// and `b` from the store.
    pub fn cut_off() -> Self {
        let place = tempfile::Builder::new().prefix("drill-").tempdir_in("/tmp").unwrap();
        let mut world = World::make(settings(&place), Box::new(|_| {})).unwrap();
        world.bring_up("a").unwrap();
        until("a leads", || world.wait_leads("a").ok());
        // The store is where it is for everybody else; b goes its own way there.
        let (store, way) = (world.path("store"), world.path("b/way"));
        std::os::unix::fs::symlink(&store, &way).unwrap();
        let string = world.string.clone();
        world.string = string.replace(store.to_str().unwrap(), way.to_str().unwrap());
        assert_ne!(world.string, string);
        world.bring_up("b").unwrap();
        world.string = string;
        world.prepare("c").unwrap();
        // The ingress, and whoever else goes by the inventory, reach a through gates.
        let gates = [Gate::before(world.ports.agent["a"]), Gate::before(world.ports.service["a"])];
        world.ports.agent.insert("a", gates[0].address());
        world.ports.service.insert("a", gates[1].address());
        world.start_ingress().unwrap();
        let fleet = world.inventory().unwrap();
        patient(&fleet);
        let cut = world.path("cut");
        let words = |argv: &[&str]| format!("{argv:?}");
        let path = |path: &Path| path.display().to_string();
        let fault = |name: &str, inject: &[&str], heal: &[&str]| {
            format!("[node.faults.{name}]\ninject = {}\nheal = {}\n", words(inject), words(heal))
        };
        let (cut_path, store, way) = (path(&cut), path(&store), path(&way));
        let partition = fault("partition", &["touch", &cut_path], &["rm", &cut_path]);
        let block = fault("store-block", &["ln", "-sfn", "way", &way], &["ln", "-sfn", &store, &way]);
        // Each table of a node is behind its other lines.
        let text = fs::read_to_string(&fleet).unwrap();
        let mut nodes = text.split("\n[[node]]\n");
        let [head, a, b, c] = std::array::from_fn(|_| nodes.next().unwrap());
        let text = [head, &format!("{a}{partition}"), &format!("{b}{block}"), c].join("\n[[node]]\n");
        fs::write(&fleet, text).unwrap();
        thread::spawn(move || {
            // It ends with the test's process.
            let mut now = Passage::Open;
            loop {
                let passage = if cut.exists() { Passage::Silent } else { Passage::Open };
                if passage != now {
                    gates.iter().for_each(|gate| gate.set(passage));
                    now = passage;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { world, hurry: None, _place: place }
    }

    /// `drill run full`, with steps that wait no longer than they must here; the node that does not lead takes over.
    fn full(&self) -> Vec<String> {
        let scenario = self.world.path("full.toml");
        let text = deeds::text("full", "c").unwrap();
        let mut text = text.replace("timeout_seconds = 600", "timeout_seconds = 60");
        if let Some((step, seconds)) = self.hurry {
            let at = text.find(&format!("id = \"{step}\"")).unwrap();
            let hurried = text[at..].replacen("timeout_seconds = 60", &format!("timeout_seconds = {seconds}"), 1);
            text.replace_range(at.., &hurried);
        }
        fs::write(&scenario, text).unwrap();
        let target = if self.leader() == "a" { "b" } else { "a" };
        let words = ["drill", "run", "full", "--target", target, "--inventory"].map(str::to_owned);
        let paths = [self.world.path("fleet.toml"), scenario].map(|path| path.display().to_string());
        let [fleet, scenario] = paths;
        words.into_iter().chain([fleet, "--scenario-file".to_owned(), scenario]).collect()
    }

    /// Which node leads, as it says itself.
    #[track_caller]
    pub fn leader(&self) -> &'static str {
        let leads = |node: &&str| Client::of_node(&self.world.node(node)).state().is_ok_and(|state| state.leader.ok);
        until("nobody leads", || NODES.into_iter().find(leads))
    }

    /// Runs `bootstrap` on the desk to its end.
    pub fn desk(&self, args: &[&str]) -> Run {
        let mut command = self.world.command("desk", "bootstrap", args);
        command.arg("--json").stdin(Stdio::null());
        Run::of(command)
    }

    /// Goes through the drill; the id that confirms it.
    #[track_caller]
    pub fn rehearse(&self) -> String {
        let args = self.full();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = self.desk(&args).expect(0);
        run.json("bootstrap.drill-run/1")["id"].as_str().unwrap().to_owned()
    }

    /// Where the inventory is.
    pub fn fleet(&self) -> String {
        self.world.path("fleet.toml").display().to_string()
    }

    /// Goes through the weekly restore; the id that confirms it.
    #[track_caller]
    pub fn rehearse_restore(&self) -> String {
        let run = self.desk(&["drill", "run", "restore", "--inventory", &self.fleet()]).expect(0);
        run.json("bootstrap.drill-run/1")["id"].as_str().unwrap().to_owned()
    }

    /// Starts the drill that was gone through.
    pub fn start(&self, confirm: &str) -> Child {
        let args = self.full();
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(["--execute", "--confirm", confirm]);
        self.spawn(&args)
    }

    /// Starts `bootstrap` on the desk.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.world.command("desk", "bootstrap", args);
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Does the drill after something was broken; its result.
    #[track_caller]
    pub fn done_after(&self, break_it: impl FnOnce(&Self)) -> Value {
        let confirm = self.rehearse();
        break_it(self);
        self.end(self.start(&confirm))
    }

    /// Waits for the end of a drill; its result.
    #[track_caller]
    pub fn end(&self, child: Child) -> Value {
        let output = child.wait_with_output().unwrap();
        let run = Run::from_output("drill run".to_owned(), output);
        assert!(run.code == 0 || run.code == 1, "{}: {}\n{}", run.code, run.text(), run.stderr);
        run.json("bootstrap.drill-run/1")
    }

    /// The directory of the run that is done, once there is one.
    #[track_caller]
    pub fn run_directory(&self) -> PathBuf {
        until("no run is done", || {
            let runs = fs::read_dir(self.world.path("desk/drills")).ok()?;
            let mut runs: Vec<PathBuf> = runs.map(|entry| entry.unwrap().path()).collect();
            runs.retain(|path| {
                let plan = fs::read_to_string(path.join("plan.json")).unwrap_or_default();
                plan.contains("\"execute\"")
            });
            runs.sort();
            runs.pop()
        })
    }

    /// Waits until a step of the run has begun.
    #[track_caller]
    pub fn wait_step(&self, step: &str) -> PathBuf {
        self.wait_event(&format!("\"step\":\"{step}\""))
    }

    /// Waits until the timeline of the run has an event with this in it.
    #[track_caller]
    pub fn wait_event(&self, part: &str) -> PathBuf {
        let directory = self.run_directory();
        until(&format!("no event with {part}"), || {
            let timeline = fs::read_to_string(directory.join("timeline.jsonl")).ok()?;
            timeline.lines().any(|line| line.contains(part)).then_some(())
        });
        directory
    }

    /// What a run was judged to be, as it stands in its bundle.
    #[track_caller]
    pub fn judged(&self, directory: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(directory.join("result.json")).unwrap()).unwrap()
    }
}

/// The demo's, for a machine that is busy for a few seconds now and then.
fn settings(place: &TempDir) -> Settings {
    let mut settings = Settings::new(place.path().join("w"), binary::bootstrap().to_owned());
    settings.ttl_seconds = TTL_SECONDS;
    settings
}

/// Gives the probers of an inventory, and a failover, as much time as such a machine wants.
fn patient(fleet: &Path) {
    let text = fs::read_to_string(fleet).unwrap();
    let changes = [
        ("max_failover_seconds = 30", "max_failover_seconds = 60"),
        ("\n[drill]\n", "\n[drill]\ninterval_ms = 1500\n"),
    ];
    let patient = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(fleet, patient).unwrap();
}

/// Waits until something is there.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The ids of the checks that a result says are not shown.
pub fn not_shown(result: &Value) -> Vec<String> {
    let failed = result["bundle"]["failed"].as_array().unwrap_or_else(|| panic!("no bundle: {result:#}"));
    failed.iter().map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

/// What was found instead of a check that is not shown.
#[track_caller]
pub fn instead_of(result: &Value, check: &str) -> String {
    let failed = result["bundle"]["failed"].as_array().unwrap_or_else(|| panic!("no bundle: {result:#}"));
    let found = failed.iter().find(|one| one["id"] == check);
    found.unwrap_or_else(|| panic!("{check} is shown: {result:#}"))["observed"].as_str().unwrap().to_owned()
}

/// The first check that a step decided badly.
pub fn failed_check(result: &Value) -> Option<String> {
    let steps = result["steps"].as_array()?;
    let checks = steps.iter().flat_map(|step| step["checks"].as_array().into_iter().flatten());
    let mut failed = checks.filter(|check| check["status"] == "failed");
    failed.next().map(|check| check["id"].as_str().unwrap().to_owned())
}

/// Processes with this in their command line, but for this one.
pub fn processes(with: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(with)
    };
    pids.filter(|pid| *pid != std::process::id().cast_signed()).filter(has).collect()
}
