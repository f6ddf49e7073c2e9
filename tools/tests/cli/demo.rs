//! The demo, where something for it is missing.

use crate::support::Place;

#[test]
fn a_demo_of_postgres_names_what_it_misses_and_makes_nothing() {
    let place = Place::bare();
    let args = ["demo", "postgres", "--dir", "work", "--json"];
    let output = place
        .command(&args)
        .env("PATH", place.path("nowhere"))
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(14), "{said}");
    assert!(said.contains("a user named postgres"), "{said}");
    assert!(said.contains("demo raw"), "{said}");
    let left = std::fs::read_dir(place.path("work"))
        .expect("the directory")
        .count();
    assert_eq!(left, 0);
}
