//! `/`: one page for a person at 3 a.m., on a laptop or a phone.
//!
//! It is whole without its script, which only asks for it again and puts in place what changed. It changes nothing: what
//! can be done is shown as commands for a terminal on the node. All text is escaped, and scripts that are not ours would not
//! run. Layer: pure; what it says is decided by `story`.

use std::fmt::Write;

use super::state::State;
use super::story::{Fact, Story, Tone, clock, lasting, quoted, word};
use crate::agent::view::{HookView, Mode, TakeoverView};

/// Looks.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// What a browser may load for the page: only what comes from the agent itself.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page of a state.
pub(super) fn html(state: &State) -> String {
    let view = &state.view;
    let story = Story::of(state);
    let tone = class(story.tone);
    let group = view.group.as_deref().unwrap_or("no group");
    let headline = text(&story.headline);
    let mut page = format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n<meta name=color-scheme content=\"light dark\">\n\
         <title>{} {headline}</title>\n<link rel=icon href=\"{}\">\n<link rel=stylesheet href=page.css>\n\
         <noscript><meta http-equiv=refresh content=5></noscript>\n<script src=page.js defer></script>\n<body>\n\
         <div class=top><span>group <b>{}</b>, seen from <b>{}</b></span><span><span data-part=time>{}</span> · \
         <span id=fresh>reload for news</span></span></div>\n<p id=lost role=alert hidden></p>\n<main>\n",
        mark(story.tone),
        icon(story.tone),
        text(group),
        text(&view.node),
        clock(state.now, state.now),
    );
    let _ = writeln!(
        page,
        "<header class={tone} data-part=headline>{}<h1>{headline}</h1><p>{}</p></header>",
        sign(story.tone),
        text(&story.why)
    );
    let _ = write!(page, "<section class={tone} data-part=problems>");
    for problem in &story.problems {
        let _ = writeln!(
            page,
            "<div class=problem><span class=name>{}</span><p>{}</p><p class=next><b>Do this:</b> {}</p></div>",
            text(&problem.name),
            text(&problem.what),
            text(&problem.next)
        );
    }
    page.push_str("</section>\n<section class=facts data-part=facts>\n");
    for fact in &story.facts {
        write_fact(&mut page, fact, state);
    }
    page.push_str("</section>\n");
    write_commands(&mut page, state);
    page.push_str("<section data-part=more>\n<h2>More</h2>\n");
    if let Some(takeover) = &view.takeover {
        write_takeover(&mut page, takeover, state);
    }
    if !view.hooks.is_empty() {
        write_hooks(&mut page, &view.hooks, state);
    }
    write_table(&mut page, "lease", "Lease", &lease_rows(state));
    write_table(&mut page, "chain", "Chain", &chain_rows(state));
    write_table(&mut page, "agent", "Agent", &agent_rows(state));
    page.push_str("</section>\n</main>\n");
    page
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}

/// For the title of a tab, where there is no colour.
fn mark(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "✓",
        Tone::Warn => "…",
        Tone::Bad => "✗",
    }
}

/// The form says it too, for who cannot tell the colours.
fn sign(tone: Tone) -> String {
    let (name, path) = match tone {
        Tone::Good => ("good", "M9 16.5l5 5 9-11"),
        Tone::Warn => ("watch this", "M16 8v10M16 23.5v.5"),
        Tone::Bad => ("act", "M10.5 10.5l11 11M21.5 10.5l-11 11"),
    };
    format!(
        "<svg class=sign viewBox=\"0 0 32 32\" role=img aria-label=\"{name}\"><circle cx=16 cy=16 r=16 /><path d=\"{path}\" /></svg>"
    )
}

fn icon(tone: Tone) -> String {
    let colour = match tone {
        Tone::Good => "1a7f37",
        Tone::Warn => "d09000",
        Tone::Bad => "d1242f",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' \
         fill='%23{colour}'/%3E%3C/svg%3E"
    )
}

fn write_fact(page: &mut String, fact: &Fact, state: &State) {
    let value = match (fact.label, api(state)) {
        ("Who leads", Some(api)) => {
            format!("<a href=\"{}\" rel=\"noopener noreferrer\">{}</a>", text(&api), text(&fact.value))
        }
        _ => text(&fact.value),
    };
    let _ = write!(
        page,
        "<dl class=\"fact {}\"><dt>{}</dt><dd class=value>{value}</dd>",
        class(fact.tone),
        text(fact.label)
    );
    for note in &fact.notes {
        let _ = write!(page, "<dd>{}</dd>", text(note));
    }
    page.push_str("</dl>\n");
}

/// Where the holder's own page is, if it is another node and says a web address.
fn api(state: &State) -> Option<String> {
    let holder =
        state.view.holder.as_ref().filter(|holder| !holder.released && holder.instance != state.view.instance)?;
    let url = url::Url::parse(holder.api.as_deref()?).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.to_string())
}

/// What can be done from here, as commands for a terminal on the node.
fn write_commands(page: &mut String, state: &State) {
    let limited = state.view.lease.mode.as_deref() == Some("auto");
    let view = &state.view;
    let mut commands = vec![("status", "The same in a terminal, with the generations on disk.", false)];
    let asked = view.paused.is_some() || view.drained.is_some() || view.demoted.is_some();
    if asked {
        commands.push(("resume", "End what was asked for: drain, pause, or demotion.", true));
    }
    match view.mode {
        Mode::Leader | Mode::Draining => {
            if view.drained.is_none() {
                commands.push(("drain", "Take no new work, and go on leading.", true));
            }
            if limited {
                commands.push(("handoff", "Step down in order, and let another node lead.", true));
            }
            commands.push(("demote", "Step down in order: drain, stop, a last snapshot, give the lease back.", true));
            if view.paused.is_none() {
                commands.push((
                    "pause",
                    "Go on leading; if the lease is lost, do not take it again until resumed.",
                    true,
                ));
            }
        }
        Mode::Follower | Mode::Candidate | Mode::Fenced => {
            if !limited && state.view.group.is_some() {
                let what = "Lead. You make sure that the service on every other node is dead.";
                commands.push(("promote", what, true));
            }
            if view.paused.is_none() {
                commands.push(("pause", "Take nothing over until resumed, as for maintenance of another node.", true));
            }
        }
        // What is wrong is looked at again by itself.
        Mode::Paused | Mode::Degraded | Mode::Refused | Mode::Starting | Mode::Promoting | Mode::Demoting => {}
    }
    if state.view.degraded.is_some() {
        commands.push(("ack", "Say that the node directory was repaired; it is checked first.", true));
    }
    page.push_str("<section data-part=commands>\n<h2>What you can do, in a terminal on this node</h2>\n");
    for (command, what, reason) in commands {
        let reason = if reason { " --reason 'WHY'" } else { "" };
        let line = format!("bootstrap {command} {}{reason}", quoted(&state.directory));
        let _ = writeln!(
            page,
            "<div class=command><p>{what}</p><pre>{}</pre><button hidden>copy</button></div>",
            text(&line)
        );
    }
    page.push_str("</section>\n");
}

fn write_takeover(page: &mut String, takeover: &TakeoverView, state: &State) {
    let took = takeover.ready.map(|ready| ready.duration_since(takeover.claimed).as_secs().unsigned_abs());
    let summary = match took {
        Some(seconds) => format!("term {}, ready {} after the claim", takeover.term, lasting(seconds)),
        None => format!("term {}, under way", takeover.term),
    };
    open_details(page, "takeover", "Last takeover", &summary);
    let rows = [
        ("claimed", clock(takeover.claimed, state.now)),
        ("ready", takeover.ready.map_or_else(|| "not yet".to_owned(), |ready| clock(ready, state.now))),
        ("began from", format!("{}, captured {}", takeover.snapshot, clock(takeover.captured, state.now))),
        ("lost at most", format!("what was written in {} before the claim", lasting(takeover.lost_seconds))),
    ];
    write_rows(page, &rows);
    let longest = takeover.phases.iter().map(|(_, ms)| *ms).max().unwrap_or(1).max(1);
    page.push_str("<table>\n");
    for (phase, ms) in &takeover.phases {
        let width = ms * 100 / longest;
        let _ = writeln!(
            page,
            "<tr><th>{}<td class=number>{:.2} s<td><svg viewBox=\"0 0 100 4\" preserveAspectRatio=none aria-hidden=true>\
             <rect width={} height=4 /></svg>",
            text(phase),
            *ms as f64 / 1000.0,
            width.max(1)
        );
    }
    page.push_str("</table></details>\n");
}

fn write_hooks(page: &mut String, hooks: &[HookView], state: &State) {
    let failed = hooks.iter().filter(|hook| hook.exit != Some(0)).count();
    let summary = if failed == 0 { "all ended well".to_owned() } else { format!("{failed} of {} failed", hooks.len()) };
    open_details(page, "hooks", "Hooks, newest first", &summary);
    page.push_str("<table>\n");
    for hook in hooks {
        let ended = match hook.exit {
            Some(code) => format!("ended with {code}"),
            None => "was killed".to_owned(),
        };
        let _ = writeln!(
            page,
            "<tr><th>{}<td>{}, {ended} after {:.2} s<pre>{}</pre>",
            text(&hook.hook),
            clock(hook.started, state.now),
            hook.took_ms as f64 / 1000.0,
            text(hook.output_end.trim_end())
        );
    }
    page.push_str("</table></details>\n");
}

fn lease_rows(state: &State) -> Vec<(&'static str, String)> {
    let lease = &state.view.lease;
    let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.2} s", ms as f64 / 1000.0));
    vec![
        ("mode", lease.mode.clone().unwrap_or_else(|| "none".to_owned())),
        ("term", state.view.term.to_string()),
        ("newest entry", lease.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string())),
        ("a claim holds for", ms(lease.ttl_ms)),
        ("worst case without leader", ms(lease.worst_case_ms)),
        ("renewals", format!("{} worked, {} requests failed", lease.renewals, lease.failures)),
        ("last renewal took", ms(lease.last_renewal_ms)),
        ("takeovers by this node", format!("{} of {} attempts", state.view.takeovers, state.view.takeover_attempts)),
        ("conflicts seen", state.view.conflicts.to_string()),
    ]
}

fn chain_rows(state: &State) -> Vec<(&'static str, String)> {
    let chain = &state.view.chain;
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    vec![
        ("store", chain.store.clone()),
        ("newest record", number(chain.head)),
        ("newest snapshot", number(chain.snapshot_seq)),
        ("restored here", number(chain.applied_seq)),
    ]
}

fn agent_rows(state: &State) -> Vec<(&'static str, String)> {
    let view = &state.view;
    let mut rows = vec![
        ("mode", word(view.mode)),
        ("node directory", state.directory.clone()),
        ("driver", view.service.driver.clone().unwrap_or_else(|| "none".to_owned())),
        ("started the service", format!("{} times", view.service.starts)),
        ("loop last alive", format!("{:.1} s ago", state.ticked_ms_ago as f64 / 1000.0)),
        ("this run", view.instance.clone()),
        ("version", view.version.clone()),
    ];
    rows.extend(view.degraded.iter().map(|why| ("degraded", why.clone())));
    rows.extend(view.orphaned.iter().map(|kept| ("kept aside", kept.clone())));
    rows
}

fn open_details(page: &mut String, id: &str, title: &str, summary: &str) {
    let _ = writeln!(page, "<details id={id}><summary>{title} <small>{}</small></summary>", text(summary));
}

fn write_table(page: &mut String, id: &str, title: &str, rows: &[(&str, String)]) {
    open_details(page, id, title, "");
    write_rows(page, rows);
    page.push_str("</details>\n");
}

fn write_rows(page: &mut String, rows: &[(&str, String)]) {
    page.push_str("<table>\n");
    for (label, value) in rows {
        let _ = writeln!(page, "<tr><th>{label}<td>{}", text(value));
    }
    page.push_str("</table>\n");
}

/// Text without markup, and without characters that would turn what stands beside it around.
fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::surfaces::board::Reading;
    use crate::surfaces::examples;
    use crate::surfaces::state::Limits;

    fn page(name: &str) -> String {
        let reading = Reading { view: examples::named(name), ticked_ago: Duration::from_millis(300) };
        html(&State::of(reading, &Limits::default(), "/srv/it's here", examples::now()))
    }

    #[test]
    fn nothing_that_others_say_becomes_markup() {
        let page = page("hostile");
        for bad in ["<script>alert", "<img", "<svg onload", "javascript:", "\u{202e}"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn every_page_says_its_headline_and_each_problem() {
        for (name, view) in examples::all() {
            let page = page(&name);
            assert_eq!(page.matches("<h1>").count(), 1, "{name}");
            for problem in &view.problems {
                let next = problem.next.replace("NODE-DIR", r"'/srv/it'\''s here'");
                assert!(page.contains(&text(&problem.what)) && page.contains(&text(&next)), "{name}");
            }
        }
    }

    #[test]
    fn a_leader_page_is_as_it_was_looked_at() {
        insta::assert_snapshot!(page("leader"));
    }

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        assert!(page("follower").contains(r"bootstrap pause '/srv/it'\''s here' --reason 'WHY'"));
        assert_eq!(quoted("/srv/orders"), "/srv/orders");
    }
}
