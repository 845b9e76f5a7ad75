//! Rules of precedence, sources and refusals.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

fn load(directory: &Path, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
    let mut all = vec![("HOME", "/home/someone")];
    all.extend(variables);
    Config::load(directory, &environment(&all), flags)
}

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NAME), text).unwrap();
    load(directory.path(), &[], &Flags::default())
}

#[test]
fn without_a_file_everything_is_a_default() {
    let directory = tempfile::tempdir().unwrap();
    let config = load(directory.path(), &[], &Flags::default()).unwrap();
    assert_eq!(config.home.value, Path::new("/home/someone/.local/share/snapkit"));
    assert_eq!(config.cache.value, Path::new("/home/someone/.cache/snapkit"));
    assert_eq!(config.home.source, Source::Default);
    assert!(config.store.is_none());
}

#[test]
fn flag_wins_over_environment_and_environment_over_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NAME), "\nstore = \"s3://file\"\n").unwrap();
    let store =
        |variables: &[(&str, &str)], flags: &Flags| load(directory.path(), variables, flags).unwrap().store.unwrap();
    let flags = Flags { store: Some("s3://flag".to_owned()), config: None, ..Flags::default() };
    let from_file = store(&[], &Flags::default());
    assert_eq!(from_file.value, "s3://file");
    assert!(matches!(from_file.source, Source::File { line: 2, .. }));
    let from_environment = store(&[("SNAPKIT_STORE", "s3://env")], &Flags::default());
    assert_eq!(from_environment.value, "s3://env");
    let from_flag = store(&[("SNAPKIT_STORE", "s3://env")], &flags);
    assert_eq!(from_flag.value, "s3://flag");
    assert_eq!(from_flag.source, Source::Flag("--store"));
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    for (text, line) in [
        ("colour = 1\n", 1),
        ("store = \"x\"\n\n[snapshot]\nexclude = [\"a\"]\n", 4),
        ("[restore]\nproof = \"guess\"\n", 2),
        ("[snapshot]\ncompression_level = 40\n", 2),
        ("[store_options]\nendpoint = [1]\n", 2),
        ("store = \n", 1),
    ] {
        match load_text(text) {
            Err(ConfigError::Invalid { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text:?} gave {other:?}"),
        }
    }
}

#[test]
fn relative_paths_and_secrets_lie_beside_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("secret"), "hush\n").unwrap();
    fs::write(
        at.join(FILE_NAME),
        "store = \"backups\"\nhome = \"h\"\n[store_options]\n\
         secret_access_key = { file = \"secret\" }\nallow_http = true\n",
    )
    .unwrap();
    let config = load(at, &[], &Flags::default()).unwrap();
    assert_eq!(config.store.as_ref().unwrap().value, at.join("backups").to_str().unwrap());
    assert_eq!(config.home.value, at.join("h"));
    let settings = config.open_options().settings;
    let options: Vec<_> = (settings.iter()).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(options, [("allow_http", "true"), ("secret_access_key", "hush")]);
    assert!(!format!("{config:?}").contains("hush"));
    let secret = &config.store_options["secret_access_key"].value;
    assert_eq!(secret.shown("secret_access_key"), "(secret)");
}

#[test]
fn cloud_variables_win_over_the_file_and_count_only_for_a_store_of_that_cloud() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NAME), "[store_options]\nregion = \"file\"\n").unwrap();
    let options = |store: &str| {
        let variables = [("AWS_REGION", "r1"), ("SNAPKIT_STORE", store)];
        let config = load(directory.path(), &variables, &Flags::default()).unwrap();
        let options = config.open_options();
        (options.settings, options.environment)
    };
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(options("s3://bucket/prefix"), (vec![], pair("AWS_REGION", "r1")));
    assert_eq!(options("/srv/store"), (pair("region", "file"), vec![]));
}

#[test]
fn mirrors_have_the_options_of_the_store_only_where_they_are_of_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let text = "store = \"s3://bucket\"\nmirrors = [\"s3://other\", \"copy\", \"https://m.example\"]\n\
                [store_options]\nsecret_access_key = \"hush\"\n";
    fs::write(directory.path().join(FILE_NAME), text).unwrap();
    let config = load(directory.path(), &[("AWS_REGION", "r1")], &Flags::default()).unwrap();
    let mirrors = config.open_mirrors();
    let has_options: Vec<bool> = mirrors.iter().map(|(_, options)| !options.settings.is_empty()).collect();
    assert_eq!(has_options, [true, false, false]);
    assert_eq!(mirrors[1].0, directory.path().join("copy").to_str().unwrap());
    assert!(matches!(config.mirrors.source, Source::File { line: 2, .. }));
    let flags = Flags { mirrors: vec!["elsewhere".to_owned()], ..Flags::default() };
    let config = load(directory.path(), &[], &flags).unwrap();
    assert_eq!((config.mirrors.value, config.mirrors.source), (flags.mirrors, Source::Flag("--mirror")));
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let flags = Flags { config: Some("absent.toml".into()), ..Flags::default() };
    let result = load(directory.path(), &[], &flags);
    assert!(matches!(result, Err(ConfigError::Read { .. })));
}

#[test]
fn snapkit_home_needs_no_other_home_but_the_cache_does() {
    let here = Path::new("/nonexistent");
    let only_home = environment(&[("SNAPKIT_HOME", "/k")]);
    let result = Config::load(here, &only_home, &Flags::default());
    assert!(matches!(result, Err(ConfigError::NoHome(_))));
    let both = environment(&[("SNAPKIT_HOME", "/k"), ("XDG_CACHE_HOME", "/c")]);
    let config = Config::load(here, &both, &Flags::default()).unwrap();
    assert_eq!(config.keys_directory(), Path::new("/k/keys"));
    assert_eq!(config.cache.value, Path::new("/c/snapkit"));
}
