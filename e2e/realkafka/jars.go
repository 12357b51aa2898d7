package realkafka

import (
	"context"
	_ "embed"
)

//go:embed pom.xml
var pom []byte

// Jars is a directory with the broker's jars, which it fills at the first use.
func Jars(ctx context.Context) (string, error) {
	return Maven(ctx, "kafka", map[string][]byte{"pom.xml": pom}, "dependency:copy-dependencies")
}
