package topology

import "flag"

// Update rewrites what the tests compare with: testdata, and the table of keys in the documentation. Read the difference before you
// keep it.
var Update = flag.Bool("update", false, "rewrite testdata and docs/configuration.md")
