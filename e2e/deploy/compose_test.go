package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const ourImage = "kafka-grpc:dev"

// project is compose.yaml, which must be of the schema of compose files, to the last field.
func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  folder,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(folder, "compose.yaml")}},
		Environment: types.Mapping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompose(t *testing.T) {
	p := project(t)
	volumes, ids := map[string]string{}, map[string]string{}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("service %s: port %s is open to others than this machine", name, port.Published)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("service %s mounts what is not there: %v", name, err)
				}
			}
		}
		if s.Image != ourImage {
			if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "latest" {
				t.Errorf("service %s: image %s has no version", name, s.Image)
			}
			continue
		}
		env := map[string]string{}
		for variable, value := range s.Environment {
			if value != nil {
				env[variable] = *value
			}
		}
		takes(t, env, s.Command...)
		if s.Command[0] != "run" {
			continue
		}
		id := env["KAFKA_GRPC_INSTANCE_ID"]
		if other, taken := ids[id]; id == "" || taken {
			t.Errorf("service %s: instance id %q, which %q has too", name, id, other)
		}
		ids[id] = name
		config := ""
		for _, v := range s.Volumes {
			switch v.Target {
			case "/var/lib/kafka-grpc":
				if other, taken := volumes[v.Source]; taken {
					t.Errorf("services %s and %s share the volume %s", name, other, v.Source)
				}
				volumes[v.Source] = name
			case "/etc/kafka-grpc":
				config = v.Source
			}
		}
		drain := drainOf(t, filepath.Join(config, "zilla.yaml"))
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < drain+stopping {
			t.Errorf("service %s is killed after %v, and calls in flight get %v", name, s.StopGracePeriod, drain)
		}
	}
	if len(volumes) != 2 || len(ids) != 2 {
		t.Errorf("%d instances with %d volumes, want 2", len(ids), len(volumes))
	}
	for _, want := range []string{"kafka", "echo", "jaeger", "prometheus", "grafana"} {
		if _, ok := p.Services[want]; !ok {
			t.Errorf("no service %s", want)
		}
	}
}

// drainOf checks a configuration, and answers the longest of its drain times.
func drainOf(t *testing.T, file string) (longest time.Duration) {
	t.Helper()
	stdout, stderr, err := run(t, nil, "check", "-c", file, "-o", "json")
	if err != nil {
		t.Fatalf("check -c %s: %v: %s", file, err, stderr)
	}
	if stderr != "" {
		t.Errorf("check -c %s warns: %s", file, stderr)
	}
	var topology struct {
		Remotes []struct {
			Processing struct{ Drain string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &topology); err != nil || len(topology.Remotes) == 0 {
		t.Fatalf("check -c %s -o json: %v: %s", file, err, stdout)
	}
	for _, r := range topology.Remotes {
		drain, err := time.ParseDuration(r.Processing.Drain)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, drain)
	}
	return longest
}
