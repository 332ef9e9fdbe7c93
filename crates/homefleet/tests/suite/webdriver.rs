//! Chromium behind chromedriver, started for one test and ended with it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::support::fresh_dir;

/// How long a page has to show what it must.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser of one test.
pub(crate) struct Browser {
    pub(crate) page: Client,
    driver: Child,
}

impl Browser {
    /// A new browser with an empty profile; `None`, said loudly, when there is no chromedriver here.
    /// In CI that is a failure.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let spawned = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let driver = match spawned {
            Ok(driver) => driver,
            Err(error) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "chromedriver: {error} (package chromium-driver)"
                );
                // Written past the test harness, which keeps to itself what a passing test prints.
                let text = format!(
                    "SKIPPED: the console was NOT tested in a browser: chromedriver: {error} (package chromium-driver)\n"
                );
                std::io::stderr().write_all(text.as_bytes()).unwrap();
                return None;
            }
        };
        let profile = fresh_dir(&format!("chromium-{name}"));
        let page = connect(port, &profile).await;
        Some(Self { page, driver })
    }

    /// Ends browser and driver.
    pub(crate) async fn stop(mut self) {
        self.page.clone().close().await.unwrap();
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }

    /// The element, as soon as it is there.
    pub(crate) async fn find(&self, css: &str) -> Element {
        self.page
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Clicks.
    pub(crate) async fn click(&self, css: &str) {
        self.find(css)
            .await
            .click()
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Types into a field that it empties first.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// The value of a JavaScript expression, as soon as it is `wanted`.
    pub(crate) async fn until(&self, expression: &str, wanted: Value) {
        let begun = Instant::now();
        loop {
            let found = self.evaluate(expression).await;
            if found == wanted {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{expression}: {found}, expected {wanted}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn evaluate(&self, expression: &str) -> Value {
        self.page
            .execute(&format!("return {expression};"), Vec::new())
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Saves a picture when `HOMEFLEET_SCREENSHOTS` names a directory for them.
    pub(crate) async fn picture(&self, name: &str) {
        if let Some(dir) = std::env::var_os("HOMEFLEET_SCREENSHOTS") {
            let png = self.page.screenshot().await.unwrap();
            std::fs::write(PathBuf::from(dir).join(name), png).unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After `stop` it is gone already; after a failed assertion it is not.
        self.driver.kill().ok();
    }
}

async fn connect(port: u16, profile: &std::path::Path) -> Client {
    let options = json!({
        "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--window-size=1280,800",
            format!("--force-device-scale-factor={}", std::env::var("HOMEFLEET_SCREENSHOT_SCALE").as_deref().unwrap_or("1")),
            format!("--user-data-dir={}", profile.display()),
        ]
    });
    let mut capabilities = serde_json::Map::new();
    capabilities.insert("goog:chromeOptions".to_owned(), options);
    capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities);
    let begun = Instant::now();
    loop {
        match builder.connect(&format!("http://127.0.0.1:{port}")).await {
            Ok(client) => return client,
            Err(error) => {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "chromedriver does not answer: {error}"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
