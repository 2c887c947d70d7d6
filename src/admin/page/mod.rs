//! The page for people: a few files that load nothing from other servers. It reads `/config` and `/live`, and asks `/explain` and `/simulate`.

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    path: &'static str,
    /// What browsers take it for.
    pub(super) content_type: &'static str,
    /// Its content.
    pub(super) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: &[File] = &[
    File { path: "/", content_type: HTML, text: include_str!("index.html") },
    File { path: "/page/style.css", content_type: STYLE, text: include_str!("style.css") },
    File { path: "/page/main.js", content_type: SCRIPT, text: include_str!("main.js") },
    File { path: "/page/model.js", content_type: SCRIPT, text: include_str!("model.js") },
    File { path: "/page/dom.js", content_type: SCRIPT, text: include_str!("dom.js") },
    File { path: "/page/list.js", content_type: SCRIPT, text: include_str!("list.js") },
    File { path: "/page/backend.js", content_type: SCRIPT, text: include_str!("backend.js") },
    File { path: "/page/ask.js", content_type: SCRIPT, text: include_str!("ask.js") },
];

/// The file at a path.
pub(super) fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// What the page may do: run the scripts and styles of this server, and talk to it. Nothing within the page itself is run, whatever names and
/// messages of others it shows.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere_and_no_text_becomes_markup() {
        for file in FILES {
            for forbidden in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick="]
            {
                let found =
                    file.text.lines().find(|line| line.contains(forbidden) && !line.contains("placeholder") && !line.contains("`http://"));
                assert_eq!(found, None, "{} has {forbidden}", file.path);
            }
            let inline = file.text.contains("<style") || file.text.contains("<script>");
            assert!(!inline, "{} has a script or style of its own, which its policy forbids", file.path);
        }
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        let names = |file: &File| {
            let quoted = file.text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
            quoted.map(|name| format!("/page/{}", name.trim_start_matches("./").trim_start_matches("page/"))).collect::<Vec<_>>()
        };
        let named: Vec<_> = FILES.iter().flat_map(names).collect();
        for name in &named {
            assert!(file(name).is_some(), "{name}");
        }
        for file in FILES.iter().filter(|file| file.path != "/") {
            assert!(named.iter().any(|name| name == file.path), "nothing names {}", file.path);
        }
    }
}
