//! Guards against a threat model that promises more than a mode keeps, or attacks that find nothing because they are bad:
//! `tools/leakage` on a part of the sample corpus.

#[path = "../tools/leakage/dump.rs"]
mod dump;
#[path = "../tools/leakage/engine.rs"]
mod engine;

use std::collections::BTreeMap;

use serde_json::Value;

/// The attacks take longer the more there are.
fn texts() -> usize {
    std::env::var("STRONGROOM_LEAKAGE_TEXTS").map_or(400, |n| n.parse().unwrap())
}

/// What is recovered where there is no exact vector; guessing recovers next to nothing.
const RECOVERED: [&str; 10] =
    ["neighbours", "blind", "others", "pairs_50", "pairs_100", "pairs_384", "both", "queries", "tenants", "epochs"];

struct Row(Value);

impl Row {
    fn share(&self, column: &str) -> f64 {
        self.0[column].as_f64().unwrap_or_else(|| panic!("{column} of {}", self.0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_gives_away_what_the_threat_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = engine::Corpus::sample(texts()).unwrap();
    dump::write(dir.path(), &corpus).await.unwrap();
    let output = dump::attacks(dir.path()).unwrap().args(["--json", "--rounds", "8"]).output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaint}");
    let rows = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: BTreeMap<String, Row> = rows.map(|row| (row["mode"].as_str().unwrap().to_owned(), Row(row))).collect();
    print!("{said}");

    // The engine has no vector at all, so there is nothing to link two tenants or two epochs by either.
    for mode in ["sealed", "sealed-pad"] {
        assert_eq!(rows[mode].0["vectors"], 0, "{mode}");
        assert_eq!(RECOVERED.map(|column| rows[mode].share(column)), [0.0; 10], "{mode}");
        assert!((rows[mode].share("recall") - 1.0).abs() < f64::EPSILON, "{mode}");
    }
    // What is left are lengths, and padding is for that.
    assert!(rows["sealed-pad"].share("sizes") < rows["sealed"].share("sizes") / 2.0);

    let plain = &rows["plain"];
    assert_eq!(plain.0["vectors"], texts());
    assert!(RECOVERED.iter().all(|column| plain.share(column) > 0.99), "{}", plain.0);

    let veiled = &rows["veiled"];
    assert_eq!(veiled.0["vectors"], texts());
    assert!(veiled.share("recall") >= 0.95, "{}", veiled.0);
    // Some shows to who only looks, and not all of it; next to everything to who knows some pairs.
    assert!((0.05..0.6).contains(&veiled.share("neighbours")), "{}", veiled.0);
    assert!(veiled.share("recall_stored") < 0.8 && veiled.share("others") < 0.1, "{}", veiled.0);
    assert!(veiled.share("pairs_100") > 0.5 && veiled.share("queries") > 0.9, "{}", veiled.0);
    assert!(veiled.share("epochs") > 0.99, "{}", veiled.0);

    // The attack that finds nothing behind the noise finds everything without it.
    assert!(rows["no mode: rotated alone"].share("blind") > 0.99);
}
