//! Hostile images (`testdata/attacks/g…/`): each is refused with its class, and nothing of it is kept.

#![allow(clippy::unwrap_used)]

use std::fs;

use manifests::refusal::Class;
use snapkit_tests::Machine;
use snapkit_tests::attack::images::{HostileImage, hostile_images, kept};
use snapkit_tests::image::{Image, layer};

#[test]
fn the_kept_images_are_those_that_are_made_here() {
    let all = hostile_images();
    if std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_some() {
        all.iter().for_each(HostileImage::write);
    }
    for image in &all {
        for (name, bytes) in image.files() {
            let path = kept(image.name).join(name);
            let there = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(there == bytes, "{} is not what is made now", path.display());
        }
    }
    let of_images = |entry: &fs::DirEntry| entry.path().join("image.tar").exists();
    let there = fs::read_dir(kept("")).unwrap().map(|entry| entry.unwrap()).filter(of_images).count();
    assert_eq!(there, all.len(), "directories that nothing makes");
}

#[test]
fn g02_to_g04_hostile_images_are_refused_with_their_class() {
    for image in hostile_images() {
        println!("{}", image.name);
        let machine = Machine::new();
        machine.ok(&["init", "store"]);
        let before = everything(&machine);
        let directory = kept(image.name);
        let (archive, pin) = (directory.join("image.tar"), directory.join("pin.json"));
        let (archive, pin) = (archive.to_str().unwrap(), pin.to_str().unwrap());
        let code = image.class.exit_code().into();
        let run = machine.run(&["image", "check", pin, "--archive", archive]).expect(code);
        let run = run.stderr_names(image.class.name()).stderr_names("next:");
        assert!(run.stderr.contains("expected"), "{}", run.stderr);
        // What can be pinned at all is pinned as what it is, and not as what was wanted.
        if matches!(image.class, Class::ImageType | Class::Hash) {
            let arguments =
                ["image", "pin", "app", "registry.example/app:prod", "--archive", archive, "--store", "store"];
            let arguments: Vec<&str> = arguments.into_iter().chain(["--platform", "linux/amd64"]).collect();
            machine.run(&arguments).expect(code).stderr_names(image.class.name());
        }
        assert_eq!(everything(&machine), before, "{} left something", image.name);
    }
}

#[test]
fn the_honest_ones_are_accepted_in_every_form() {
    let machine = Machine::new();
    let good = Image::new("good");
    let pin = machine.write("pin.json", good.pin().to_string());
    machine.write("layout.tar", good.layout().to_tar());
    machine.write("docker.tar", good.docker().to_tar());
    good.layout().to_directory(&machine.path("layout"));
    let mut both = good.layout();
    let docker = good.docker();
    both.append(&docker);
    machine.write("both.tar", both.to_tar());
    for archive in ["layout.tar", "docker.tar", "layout", "both.tar"] {
        machine.ok(&["image", "check", pin.to_str().unwrap(), "--archive", archive]);
    }
    let other = Image::of_layer(layer(&[("content", b"good"), ("more", b"")]), "amd64");
    machine.write("other.tar", other.layout().to_tar());
    let code = Class::Image.exit_code().into();
    machine.run(&["image", "check", pin.to_str().unwrap(), "--archive", "other.tar"]).expect(code);
}

/// Every file of the machine but empty directories and locks, with its bytes.
fn everything(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let roots = [machine.path(""), machine.home(), machine.cache()];
    let files = roots.iter().flat_map(walkdir::WalkDir::new).filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file() && !entry.path().to_string_lossy().ends_with(".lock"));
    let mut all: Vec<_> =
        files.map(|entry| (entry.path().display().to_string(), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}
