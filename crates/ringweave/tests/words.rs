//! The help texts and the messages of bad input, word by word.

#[test]
fn the_words_are_as_told() {
    trycmd::TestCases::new()
        .register_bin(
            "ringweave",
            std::path::Path::new(env!("CARGO_BIN_EXE_ringweave")),
        )
        .env("RINGWEAVE_DATA", "nowhere")
        .env("XDG_CONFIG_HOME", "/nowhere")
        .case("tests/cmd/*.trycmd");
}
