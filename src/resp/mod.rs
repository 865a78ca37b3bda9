//! RESP, the wire protocol: commands and replies, read as they come and borrowed from the input.
