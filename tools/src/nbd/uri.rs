//! NBD URIs.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The URI of an export on a Unix socket.
pub fn unix(export: &str, socket: &Path) -> String {
    let (export, socket) = (
        escaped(export.as_bytes(), b"-._~"),
        escaped(socket.as_os_str().as_bytes(), b"-._~/"),
    );
    format!("nbd+unix:///{export}?socket={socket}")
}

/// The URI of an export on TCP.
pub fn tcp(export: &str, address: SocketAddr) -> String {
    format!("nbd://{address}/{}", escaped(export.as_bytes(), b"-._~"))
}

fn escaped(bytes: &[u8], plain: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            byte if byte.is_ascii_alphanumeric() || plain.contains(byte) => {
                text.push(char::from(*byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_uri_is_escaped() {
        let uri = unix("pg@monday", Path::new("/tmp/a b&c"));
        assert_eq!(uri, "nbd+unix:///pg%40monday?socket=/tmp/a%20b%26c");
        let address = "[::1]:10809".parse().expect("an address");
        assert_eq!(tcp("pg", address), "nbd://[::1]:10809/pg");
    }
}
