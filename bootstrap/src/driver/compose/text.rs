//! What the text of a compose file must say, before any engine sees it.
//!
//! It is no reader of the format: containers are checked once they are created, whatever the text meant. This finds the
//! usual mistakes early, and names the line. Layer: pure.

use crate::driver::DriverError;

/// Refuses images that are not named by a digest, and such as would be built here.
pub(super) fn check(text: &str) -> Result<(), DriverError> {
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let Some((key, value)) = line.split_once(':') else { continue };
        let key = key.trim_start_matches("- ").trim().trim_matches(['"', '\'']);
        if key == "build" {
            return Err(refused(at, "an image that is built on the spot cannot be pinned"));
        }
        if key == "image" && !is_by_digest(value) {
            let value = value.trim();
            return Err(refused(at, &format!("found {value}, expected name@sha256:… or the id sha256:…")));
        }
    }
    Ok(())
}

fn refused(at: usize, why: &str) -> DriverError {
    DriverError::Identity { what: format!("an image in line {} of the compose file", at + 1), why: why.to_owned() }
}

fn is_by_digest(value: &str) -> bool {
    let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    let digest = value.rsplit_once('@').map_or(value, |(_, digest)| digest);
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_digest_and_not_built() {
        let hex = "0123456789abcdef".repeat(4);
        let good = format!(
            "services:\n  app:\n    image: 127.0.0.1:5000/app@sha256:{hex} # pinned\n  other:\n    \"image\": 'sha256:{hex}'\n"
        );
        check(&good).unwrap();
        for bad in ["image: app:latest", "image: app", "image: app@sha256:12", "image: ${IMAGE}", "build: .", "image:"]
        {
            let error = check(&format!("services:\n  app:\n    {bad}\n")).unwrap_err();
            assert!(error.to_string().contains("line 3"), "{error}");
        }
    }
}
