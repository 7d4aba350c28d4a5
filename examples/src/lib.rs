//! Small programs, one idea each: see README.md.
