package topology_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// update rewrites the expectations in testdata: go test ./topology -update. Read the difference before you keep it.
var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
