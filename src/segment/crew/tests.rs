use super::*;

const LONG: usize = HELP_LEN_MIN;

fn sum(shift: &Shift<'_>, stints: Vec<u64>) -> u64 {
    let sum = AtomicU64::new(0);
    let add = |stint| {
        sum.fetch_add(stint, Ordering::Relaxed);
        Ok::<_, u64>(())
    };
    shift.each(stints, add).expect("no stint fails");
    sum.into_inner()
}

#[test]
fn every_stint_is_done_once_with_help_and_without() {
    for helpers in [0, 1, 3] {
        let crew = Crew::new(helpers).unwrap();
        for len in [0, LONG - 1, LONG, 10 * LONG] {
            for count in [0, 1, 2, 100] {
                assert_eq!(
                    sum(&crew.join(len), (0..count).collect()),
                    (0..count).sum::<u64>(),
                    "{helpers} helpers, {len} bytes, {count} stints"
                );
            }
        }
    }
}

#[test]
fn somebody_helps_who_has_much_to_do_and_is_alone() {
    let crew = Crew::new(1).unwrap();
    assert!(crew.join(LONG - 1).help.is_none(), "too little to do");
    let first = crew.join(LONG);
    assert!(first.help.is_some());
    assert_eq!(first.stint_len(), STINT_LEN);
    let second = crew.join(LONG);
    assert!(second.help.is_none(), "another is at work");
    assert_eq!(second.stint_len(), usize::MAX);
    drop((first, second));
    assert!(crew.join(LONG).help.is_some(), "alone again");
    assert!(Crew::new(0).unwrap().join(LONG).help.is_none());
}

#[test]
fn two_threads_work_at_once_if_one_helps() {
    let crew = Crew::new(1).unwrap();
    // Each waits for the other: with one thread alone this would not end.
    let both = std::sync::Barrier::new(2);
    let meet = |()| {
        both.wait();
        Ok::<_, ()>(())
    };
    assert_eq!(crew.join(LONG).each(vec![(); 2], meet), Ok(()));
}

#[test]
fn after_an_error_no_other_stint_is_begun() {
    for helpers in [0, 1] {
        let crew = Crew::new(helpers).unwrap();
        let begun = AtomicU64::new(0);
        let fail = |stint: u64| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(stint)
        };
        let failed = crew.join(LONG).each((0..1000).collect(), fail);
        assert!(failed.is_err());
        assert!(begun.into_inner() <= 1 + helpers as u64);
    }
}
