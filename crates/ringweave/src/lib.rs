//! ringweave
