//! Every page size, from end to end.

use crate::support::{Place, noise};

#[test]
fn every_page_size_works_from_end_to_end() {
    for size in ["4K", "8K", "16K", "32K", "64K"] {
        let place = Place::bare();
        place.ok(&["store", "init", "--page-size", size, "--segment-size", "1M"]);
        let mut image = noise(600_000, 7);
        image[100_000..400_000].fill(0);
        place.file("disk.img", &image);
        place.ok(&["import", "image", "disk.img", "pg"]);
        place.ok(&["snapshot", "create", "pg", "before"]);
        place.ok(&["clone", "create", "pg", "trial"]);
        // Neither end is on a page boundary, whatever the size.
        place.write("trial", 130_001, &noise(70_000, 8));
        place.ok(&[
            "volume", "discard", "trial", "--offset", "1000", "--length", "98000",
        ]);
        image.resize(image.len().next_multiple_of(64 << 10), 0);
        for (reference, wanted) in [
            ("pg", image.clone()),
            ("@before", image.clone()),
            ("trial", {
                let mut changed = image.clone();
                changed[130_001..200_001].copy_from_slice(&noise(70_000, 8));
                changed[1000..99_000].fill(0);
                changed
            }),
        ] {
            place.ok(&["export", "image", reference, "out.img", "--force"]);
            let out = std::fs::read(place.path("out.img")).expect("an image");
            assert!(
                out.len() >= 600_000 && out[..] == wanted[..out.len()],
                "{size} {reference}"
            );
        }
        place.ok(&["fsck", "--read-data"]);
        let page = place.json(&["inspect", "page", "trial:2"]);
        assert_eq!(page["page"]["page"], 2, "{size}");
    }
}
