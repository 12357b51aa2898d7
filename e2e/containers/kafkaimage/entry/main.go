// Command entry starts Kafka in a container from its environment, as the image of the Apache project does: KAFKA_<NAME> is
// a property of server.properties, where _ stands for a dot, __ for _ and ___ for -. CLUSTER_ID is the id of the cluster.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

const (
	java      = "/opt/java/bin/java"
	libraries = "/opt/kafka/libs/*"
	file      = "/opt/kafka/server.properties"
)

func main() {
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, "entry:", err)
		os.Exit(1)
	}
}

func start() error {
	id := os.Getenv("CLUSTER_ID")
	if id == "" {
		return errors.New("set CLUSTER_ID")
	}
	if err := os.WriteFile(file, []byte(properties(os.Environ())), 0o600); err != nil {
		return err
	}
	arguments := []string{"java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", libraries}
	format := exec.Command(java, append(slices.Clone(arguments[1:]), "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", id, "-c", file)...)
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting the storage: %w\n%s", err, out)
	}
	// In place of this process, so that it gets the signals.
	return syscall.Exec(java, append(arguments, "kafka.Kafka", file), os.Environ())
}

// properties are the lines of server.properties.
func properties(environment []string) string {
	var lines []string
	for _, pair := range environment {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ours := strings.CutPrefix(name, "KAFKA_"); ours {
			lines = append(lines, strings.NewReplacer("___", "-", "__", "_", "_", ".").Replace(strings.ToLower(rest))+"="+value+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
