package telemetry_test

import "flag"

var update = flag.Bool("update", false, "rewrite what is generated")
