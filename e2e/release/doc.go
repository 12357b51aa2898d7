// Package release tests what deploy/release makes: the archives, their lists of parts and the checksums. It is a package of its own so that
// its builds run beside the tests of package e2e.
package release
