//! Settings of cloud stores: which names are understood, and which credentials they amount to.
//!
//! Rule: without explicit credentials opening is refused. The libraries below would ask the cloud's metadata address
//! otherwise, which on a machine outside that cloud hangs, and inside it uses an identity that nobody chose.
//! Layer: part of `store`; it reads no environment, the caller passes it in.

use std::collections::BTreeMap;

use super::OpenError;

/// The cloud protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Gcs,
    Azure,
}

/// The setting that allows asking the machine's metadata address for credentials.
const INSTANCE: &str = "use_instance_credentials";

/// Names that make the libraries ask an address of the machine's surroundings; dropped unless [`INSTANCE`] is set.
const INSTANCE_ONLY: [&str; 9] = [
    "metadata",
    "imds",
    "container",
    "msi",
    "identity_endpoint",
    "resource_id",
    "object_id",
    "fabric",
    "credential_type",
];

/// Settings by lowercase name without the cloud's prefix.
pub(super) struct Settings {
    values: BTreeMap<String, String>,
    cloud: Cloud,
    url: String,
}

impl Settings {
    /// Joins the environment and explicit settings; the latter win. Empty values count as absent.
    pub(super) fn new(
        cloud: Cloud,
        url: &str,
        environment: &[(String, String)],
        explicit: &[(String, String)],
    ) -> Self {
        let env_prefix = match cloud {
            Cloud::S3 => "AWS_",
            Cloud::Gcs => "GOOGLE_",
            Cloud::Azure => "AZURE_",
        };
        let from_environment = environment.iter().filter(|(name, _)| name.starts_with(env_prefix));
        let mut values = BTreeMap::new();
        for (name, value) in from_environment {
            values.insert(short_name(cloud, name), value.clone());
        }
        for (name, value) in explicit {
            let name = short_name(cloud, name);
            if name == "endpoint" {
                // The library below prefers this one, wherever it comes from.
                values.remove("endpoint_url_s3");
            }
            values.insert(name, value.clone());
        }
        values.retain(|_, value| !value.is_empty());
        Self { values, cloud, url: url.to_owned() }
    }

    /// Checks that credentials are explicit and complete, and returns what the client's builder is to be told.
    pub(super) fn checked(mut self) -> Result<BTreeMap<String, String>, OpenError> {
        let instance = self.values.remove(INSTANCE).is_some_and(|value| is_true(&value));
        if !instance {
            self.values.retain(|name, _| !INSTANCE_ONLY.iter().any(|part| name.contains(part)));
            self.require_credentials()?;
        }
        Ok(self.values)
    }

    fn require_credentials(&self) -> Result<(), OpenError> {
        let any = |sets: &[&[&str]]| sets.iter().any(|set| set.iter().all(|name| self.values.contains_key(*name)));
        let flag = |name: &str| self.values.get(name).is_some_and(|value| is_true(value));
        let (present, what_to_set) = match self.cloud {
            Cloud::S3 => (
                any(&[&["access_key_id", "secret_access_key"], &["web_identity_token_file", "role_arn"]])
                    || flag("skip_signature"),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the options access_key_id and secret_access_key; \
                 profiles in ~/.aws are not read), skip_signature=true for a public bucket, or \
                 use_instance_credentials=true to let the cloud's metadata service supply them",
            ),
            Cloud::Gcs => (
                any(&[
                    &["service_account"],
                    &["service_account_path"],
                    &["service_account_key"],
                    &["application_credentials"],
                    &["bearer_token"],
                ]),
                "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a key file (or the options \
                 service_account_key or bearer_token), or use_instance_credentials=true to let the cloud's metadata \
                 service supply them; read a public bucket through https://storage.googleapis.com/BUCKET",
            ),
            Cloud::Azure => (
                any(&[
                    &["access_key"],
                    &["sas_token"],
                    &["bearer_token"],
                    &["client_id", "client_secret", "tenant_id"],
                    &["client_id", "federated_token_file", "tenant_id"],
                ]) || flag("use_emulator")
                    || flag("skip_signature"),
                "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN (or the \
                 options account_name, access_key, sas_token, bearer_token), skip_signature=true for a public \
                 container, or use_instance_credentials=true to let the cloud's metadata service supply them",
            ),
        };
        if present {
            return Ok(());
        }
        Err(OpenError::Credentials { url: self.url.clone(), what_to_set: what_to_set.to_owned() })
    }
}

/// One name for each setting that has several.
fn short_name(cloud: Cloud, name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let without = |prefix: &str| name.strip_prefix(prefix).unwrap_or(&name).to_owned();
    match cloud {
        Cloud::S3 => match without("aws_").as_str() {
            "endpoint_url" => "endpoint",
            "token" => "session_token",
            other => other,
        }
        .to_owned(),
        Cloud::Gcs => without("google_"),
        Cloud::Azure => {
            let short = without("azure_");
            let short = short.strip_prefix("storage_").unwrap_or(&short);
            match short {
                "account_key" | "master_key" => "access_key",
                "sas_key" => "sas_token",
                "token" => "bearer_token",
                "authority_id" => "tenant_id",
                other => other,
            }
            .to_owned()
        }
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(
        cloud: Cloud,
        env: &[(&str, &str)],
        explicit: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, OpenError> {
        Settings::new(cloud, "x://b", &pairs(env), &pairs(explicit)).checked()
    }

    #[test]
    fn missing_or_half_credentials_are_refused() {
        assert!(check(Cloud::S3, &[], &[]).is_err());
        assert!(check(Cloud::S3, &[("AWS_ACCESS_KEY_ID", "a")], &[]).is_err());
        assert!(check(Cloud::S3, &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "")], &[]).is_err());
        assert!(check(Cloud::Gcs, &[], &[("skip_signature", "true")]).is_err());
        assert!(check(Cloud::Azure, &[("AZURE_STORAGE_ACCOUNT_NAME", "a")], &[]).is_err());
    }

    #[test]
    fn surroundings_are_never_asked_without_the_explicit_setting() {
        let env = [
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
            ("AWS_METADATA_ENDPOINT", "http://169.254.169.254"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
        ];
        let values = check(Cloud::S3, &env, &[]).unwrap();
        assert_eq!(values.keys().collect::<Vec<_>>(), ["access_key_id", "secret_access_key"]);
        assert!(check(Cloud::S3, &env[..2], &[]).is_err());
        assert!(check(Cloud::S3, &env[..2], &[(INSTANCE, "false")]).is_err());
        assert_eq!(check(Cloud::S3, &env[..2], &[(INSTANCE, "true")]).unwrap().len(), 2);
    }

    #[test]
    fn explicit_settings_win_over_the_environment() {
        let env = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "c")];
        let values = check(Cloud::S3, &env, &[("region", "d"), ("aws_access_key_id", "e")]).unwrap();
        assert_eq!((values["region"].as_str(), values["access_key_id"].as_str()), ("d", "e"));
    }
}
