package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var adminAddress = regexp.MustCompile(`admin=http://(\S+)`)

// admin is the admin address of a process that is ready.
func (p *process) admin() string {
	p.t.Helper()
	return adminAddress.FindStringSubmatch(p.await("ready "))[1]
}

// eventually tries until it has worked: a view is a moment behind.
func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !try(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// What happened to a key is told by curl, grpcurl and the command line, by an instance and by a process that has only
// views; that one goes on when its neighbour is killed.
func TestViewsOfAKey(t *testing.T) {
	w := newWorld(t)
	w.createTopics(4)
	instance := w.run()
	others := start(t, w.command("views", "-c", filepath.Join(w.dir, "zilla.yaml"), "--state-dir", t.TempDir()))
	at := map[string]string{"an instance": instance.admin(), "views alone": others.admin()}
	c := dial(t, plainAddress)
	for n := range 5 {
		if r := c.call(fmt.Sprintf("order-%d", n), "hi"); r.err != nil {
			t.Fatal(r.err)
		}
	}

	curl := func(address, path string, out any) (status string) {
		t.Helper()
		stdout, stderr, code := output(t, exec.Command("curl", "-s", "-w", "\n%{http_code}", "http://"+address+path))
		end := strings.LastIndex(stdout, "\n")
		if code != 0 || end < 0 {
			t.Fatalf("curl %s: exit code %d: %s%s", path, code, stdout, stderr)
		}
		if err := json.Unmarshal([]byte(stdout[:end]), out); err != nil {
			t.Fatalf("curl %s: %v in %s", path, err, stdout)
		}
		return stdout[end+1:]
	}
	type entry struct{ Key, Status, Method string }
	key := ""
	for who, address := range at {
		var page struct{ Entries []entry }
		eventually(t, who+" has all keys", func() bool {
			curl(address, "/v1/keys?prefix=order-&status=OK&method=UnaryEcho", &page)
			return len(page.Entries) == 5
		})
		key = page.Entries[0].Key
		if !strings.HasPrefix(key, "order-0-") {
			t.Errorf("%s: the first key is %s", who, key)
		}
		var one struct {
			Entry     entry
			Freshness struct{ AsOf time.Time }
		}
		if status := curl(address, "/v1/keys/"+key, &one); status != "200" || one.Entry != page.Entries[0] || time.Since(one.Freshness.AsOf) > patience {
			t.Errorf("%s: status %s, %+v", who, status, one)
		}
		var failure struct{ Code, Message string }
		if status := curl(address, "/v1/keys/order-0", &failure); status != "404" || !strings.Contains(failure.Message, `did you mean "`+key) {
			t.Errorf("%s: status %s, %+v", who, status, failure)
		}
		if status := curl(address, "/v1/keys?limit=1000000", &failure); status != "400" || failure.Code != "invalid_argument" {
			t.Errorf("%s: status %s, %+v", who, status, failure)
		}

		// By reflection: grpcurl is told nothing of the service.
		stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), "-plaintext", "-max-time", "30", "-d", `{"key": "`+key+`"}`, address, "kafkagrpc.views.v1.Views/Get"))
		if code != 0 || !strings.Contains(stdout, `"status": "OK"`) {
			t.Errorf("%s: grpcurl: exit code %d: %s%s", who, code, stdout, stderr)
		}
		stdout, stderr, code = output(t, w.command("keys", "list", "--prefix", "order-", "--admin-addr", address))
		if code != 0 || strings.Count(stdout, "\n") != 6 || !strings.Contains(stderr, "5 keys, as of") {
			t.Errorf("%s: keys list: exit code %d: %s%s", who, code, stdout, stderr)
		}
	}

	watch := start(t, w.command("keys", "watch", "--prefix", "late", "-o", "json", "--admin-addr", at["views alone"]))
	var stats struct{ Tables []struct{ Watchers int } }
	eventually(t, "the watch has begun", func() bool {
		curl(at["views alone"], "/v1/stats", &stats)
		return stats.Tables[0].Watchers == 1
	})
	instance.kill()
	if stdout, stderr, code := output(t, w.command("keys", "get", key, "--admin-addr", at["views alone"])); code != 0 || !strings.Contains(stdout, "OK (0)") {
		t.Errorf("after the kill of its neighbour: exit code %d: %s%s", code, stdout, stderr)
	}
	instance = w.run()
	c = dial(t, plainAddress)
	if r := c.call("late", "hi"); r.err != nil {
		t.Fatal(r.err)
	}
	watch.awaitText(`"key":"late-`)
	watch.signal(syscall.SIGINT)
	if code := watch.wait(); code != 0 {
		t.Errorf("exit code %d of the watch: %s", code, watch.output())
	}
	for _, p := range []*process{instance, others} {
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, p.output())
		}
	}
}

// Two instances without copies answer for each other's keys, which Kafka tells them to whom belong; and the one that is left, for all.
func TestLocalViewsOfAKey(t *testing.T) {
	w := newWorld(t)
	w.createTopics(4)
	killed := w.run("--views=local")
	left := w.run("--views=local", "--listen", "127.0.0.2", "--state-dir", t.TempDir()) // two cannot listen on the same ports
	c := dial(t, plainAddress)
	for n := range 8 {
		if r := c.call(fmt.Sprintf("order-%d", n), "hi"); r.err != nil {
			t.Fatal(r.err)
		}
	}
	var keys []string
	for _, r := range w.records(replyTopic, 16) { // each reply has a message and an end
		keys = append(keys, string(r.Key))
	}
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) != 8 {
		t.Fatalf("keys %q", keys)
	}
	// get is how many of the keys an instance finds, and all that was said.
	get := func(p *process) (found int, said string) {
		for _, key := range keys {
			stdout, stderr, code := output(t, w.command("keys", "get", key, "--admin-addr", p.admin()))
			if said += stdout + stderr; code == 0 && strings.Contains(stdout, "OK (0)") {
				found++
			}
		}
		return found, said
	}
	for _, p := range []*process{killed, left} {
		eventually(t, "an instance finds all keys", func() bool { found, _ := get(p); return found == len(keys) })
	}
	killed.kill()
	// Until Kafka knows of it, what it worked on is not to be had; this is not told as keys that were never seen.
	found, said := get(left)
	if found == 0 || found == len(keys) || strings.Contains(said, "never seen") {
		t.Errorf("after the kill %d of %d keys are found: %s", found, len(keys), said)
	}
	eventually(t, "the instance that is left finds all keys", func() bool { found, _ := get(left); return found == len(keys) })
	left.signal(syscall.SIGTERM)
	if code := left.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, left.output())
	}
}
