//! Fleets that are not ours: nodes and control plane of a few lines of Python, nginx as the ingress.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::group::PATIENCE;
use crate::kept::free_port;

/// The ingress is nginx; the rest is Python.
pub struct StandIns {
    directory: TempDir,
    servers: Child,
    nginx: RefCell<Option<Child>>,
    ports: Value,
    ingress: Cell<u16>,
}

impl StandIns {
    /// Servers with these names, beside one called `control`. They answer 404 until told otherwise.
    pub fn start(names: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("snapkit-fleet-").tempdir().unwrap();
        let all: Vec<&str> = names.iter().copied().chain(["control"]).collect();
        for name in &all {
            fs::write(directory.path().join(format!("{name}.json")), "{}").unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("service/stand_in.py");
        let servers = Command::new("python3").arg(script).arg(directory.path()).args(&all).spawn().unwrap();
        let mut stand_ins =
            Self { directory, servers, nginx: RefCell::default(), ports: Value::Null, ingress: Cell::default() };
        let file = stand_ins.path("ports.json");
        wait_for("the servers", || file.exists());
        stand_ins.ports = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        stand_ins
    }

    /// A file beside the servers.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes such a file.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Where a server listens.
    pub fn url(&self, name: &str) -> String {
        let port = if name == "ingress" { Some(self.ingress.get().into()) } else { self.ports[name].as_u64() };
        format!("http://127.0.0.1:{}/", port.unwrap())
    }

    /// What a server answers at one path from now on; the others stay.
    pub fn set(&self, name: &str, path: &str, answer: Value) {
        let file = self.path(&format!("{name}.json"));
        let mut all: Map<String, Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        all.insert(path.to_owned(), answer);
        let new = self.write(&format!("{name}.new"), Value::Object(all).to_string());
        fs::rename(new, file).unwrap();
    }

    /// Makes a server a node that answers as one of this role, in term 7.
    pub fn node(&self, name: &str, role: &str) {
        self.set(name, "/healthz", json!({"body": "ok\n"}));
        self.set(name, "/readyz", json!({"body": "ready\r\n"}));
        self.set(name, "/rolez", json!({"body": role}));
        let state = json!({"node": name, "instance": format!("{name}-1"), "term": 7, "mode": role});
        self.set(name, "/v1/state", json!({"body": state.to_string()}));
    }

    /// Makes a server answer nothing good.
    pub fn dead(&self, name: &str) {
        self.write(&format!("{name}.json"), "{}");
    }

    /// What the control plane answers.
    pub fn control(&self, answer: &Value) {
        self.set("control", "/v1/state", json!({"body": answer.to_string()}));
    }

    /// What a server was asked, and with which credential.
    pub fn requests(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.requests"))).unwrap_or_default()
    }

    /// nginx before these servers: the first one gets everything, as long as it answers.
    pub fn ingress(&self, upstreams: &[&str]) {
        if self.ingress.get() == 0 {
            self.ingress.set(free_port());
        }
        let servers: Vec<String> = (upstreams.iter().enumerate())
            .map(|(number, name)| {
                let port = self.ports[name].as_u64().unwrap();
                let backup = if number == 0 { "" } else { " backup" };
                format!("server 127.0.0.1:{port} max_fails=2 fail_timeout=5s{backup};")
            })
            .collect();
        let here = self.directory.path().display();
        let config = format!(
            "pid {here}/nginx.pid;\nerror_log {here}/nginx.log;\ndaemon off;\nevents {{}}\nhttp {{\n  access_log off;\n  \
             client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n  \
             uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n  upstream app {{ {} keepalive 32; }}\n  \
             server {{ listen 127.0.0.1:{}; location / {{ proxy_pass http://app; proxy_next_upstream error timeout http_404; }} }}\n}}\n",
            servers.join(" "),
            self.ingress.get()
        );
        self.write("nginx.conf", config);
        self.stop_ingress();
        let child = nginx(&self.path("nginx.conf")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.nginx.replace(Some(child.expect("nginx is installed")));
        let port = self.ingress.get();
        wait_for("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// Ends nginx.
    pub fn stop_ingress(&self) {
        if let Some(mut nginx) = self.nginx.take() {
            // The master ends its workers, which a kill would leave behind.
            let pid = rustix::process::Pid::from_child(&nginx);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            nginx.wait().unwrap();
        }
    }

    /// An inventory of these nodes, the first of which is to lead, with ingress and control plane; `more` stands at its top, and
    /// `{name}` there for the address of that server.
    pub fn inventory(&self, nodes: &[&str], more: &str) -> String {
        let mut text = format!("name = \"orders\"\n{more}\n");
        if self.ingress.get() != 0 && !text.contains("[ingress]") {
            text += &format!("[ingress]\nurl = \"{}\"\n", self.url("ingress"));
        }
        if !text.contains("[control]") {
            text += &format!("[control]\nurl = \"{}\"\n", self.url("control"));
        }
        for (number, name) in nodes.iter().enumerate() {
            let preferred = if number == 0 { "preferred = \"leader\"\n" } else { "" };
            text += &format!("[[node]]\nname = \"{name}\"\nsurface = \"{}\"\n{preferred}", self.url(name));
        }
        text
    }

    /// A text without what differs from run to run: ports, and where the files are.
    pub fn stable(&self, text: &str) -> String {
        let mut text = text.replace(&self.directory.path().display().to_string(), "DIR");
        for (name, port) in self.ports.as_object().unwrap() {
            text = text.replace(&format!("127.0.0.1:{port}"), &name.to_uppercase());
        }
        text.replace(&format!("127.0.0.1:{}", self.ingress.get()), "INGRESS")
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        self.stop_ingress();
        let _ = self.servers.kill();
        let _ = self.servers.wait();
    }
}

/// nginx with this configuration.
pub fn nginx(config: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(config).arg("-p").arg(config.parent().unwrap());
    command
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}
