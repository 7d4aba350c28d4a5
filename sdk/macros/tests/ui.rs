//! Misuse reads well: each program in `ui/fail` stops the compiler with the words beside it, each in `ui/pass` compiles.

#[test]
fn misuse_reads_well() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
