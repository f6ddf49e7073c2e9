//! `torture`.

use crate::support::Place;

#[test]
fn torture_counts_what_it_did_and_touches_no_file() {
    let place = Place::bare();
    let args = ["torture", "--seed", "40", "--cases", "3"];
    let told = &place.json(&args)["torture"];
    assert_eq!(
        (told["seed"].as_u64(), told["cases"].as_u64()),
        (Some(40), Some(3))
    );
    assert!(told["states"].as_u64() >= told["distinct_states"].as_u64());
    assert!(told["distinct_states"].as_u64() > Some(10), "{told}");
    assert!(told["failure"].is_null(), "{told}");
    // The same seed plays the same histories.
    assert_eq!(
        place.json(&args)["torture"]["distinct_states"],
        told["distinct_states"]
    );
    let text = String::from_utf8(place.ok(&args)).expect("text");
    assert!(
        text.contains("3 cases from seed 40") && text.contains("no failure"),
        "{text}"
    );
    let left = std::fs::read_dir(place.path("."))
        .expect("the directory")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn long_histories_have_over_200_operations() {
    let place = Place::bare();
    let args = ["torture", "--seed", "40", "--cases", "2", "--long"];
    let told = &place.json(&args)["torture"];
    assert_eq!(told["long"], true);
    assert!(told["operations"].as_u64() > Some(250), "{told}");
    assert!(told["failure"].is_null(), "{told}");
    let planted = [&args[..], &["--plant", "no-sync", "--no-shrink"]].concat();
    let output = place.command(&planted).output().expect("the program");
    assert_eq!(output.status.code(), Some(18));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("--cases 1 --long --plant no-sync"), "{text}");
}

#[test]
fn torture_finds_what_is_planted_and_says_how_to_see_it_again() {
    let place = Place::bare();
    let args = [
        "torture",
        "--seed",
        "1",
        "--plant",
        "early-acknowledgement",
        "--threads",
        "1",
    ];
    let output = place
        .command(&args)
        .arg("--json")
        .output()
        .expect("the program");
    assert_eq!(output.status.code(), Some(18));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let failure = &told["torture"]["failure"];
    let replay = failure["replay"].as_str().expect("a command");
    assert!(
        !failure["shortest"]
            .as_array()
            .expect("a history")
            .is_empty()
    );
    let words: Vec<_> = replay.split(' ').skip(1).chain(["--no-shrink"]).collect();
    let again = place.command(&words).output().expect("the program");
    assert_eq!(again.status.code(), Some(18), "{replay}");
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(
        text.contains("play it again: offshoot torture --seed"),
        "{text}"
    );
}

#[test]
fn torture_refuses_nonsense() {
    let place = Place::bare();
    for args in [
        &["torture", "--cases", "0"][..],
        &["torture", "--threads", "0"],
        &["torture", "--minutes", "0"],
        &["torture", "--seed", "x"],
        &["torture", "--plant", "nothing"],
    ] {
        let output = place.command(args).output().expect("the program");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
