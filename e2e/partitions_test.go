package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grow adds partitions to a topic.
func (w *handOver) grow(topic string, by int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if added, err := w.admin.CreatePartitions(ctx, by, topic); err != nil || added.Error() != nil {
		w.t.Fatal(err, added.Error())
	}
}

// callsOf fails unless the service got that many calls.
func (w *handOver) callsOf(n int) {
	w.t.Helper()
	if got := w.echo.count("call "); got != n {
		w.t.Errorf("the service got %d calls, want %d", got, n)
	}
}

var adminURL = regexp.MustCompile(`admin=(\S+)`)

// readyz is what an instance answers there.
func readyz(t *testing.T, p *process) (status int, body string) {
	t.Helper()
	found := adminURL.FindStringSubmatch(p.await("ready "))
	if found == nil {
		t.Fatal("no address of the admin server")
	}
	client := http.Client{Timeout: patience}
	response, err := client.Get(found[1] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// Partitions that are added to the topics while two instances run: what comes in those of the request topic is answered within
// seconds, each key keeps its result, and both instances say what is the matter.
func TestPartitionsAddedWhileRunning(t *testing.T) {
	w := newHandOver(t)
	file := w.variant("")
	first, second := w.instance(file), w.instance(file)
	for _, p := range []*process{first, second} {
		p.until("an assignment of half of the partitions", func(lines []string, _ bool) bool {
			return len(lastAssignment(lines)) == handOverPartitions/2
		})
	}
	const before, all = 16, 40
	ask := func(partitions int32, keys int) {
		t.Helper()
		var calls []string
		for key := range keys {
			calls = append(calls, w.askAmong(partitions, fmt.Sprint(key), time.Time{}))
		}
		w.await(calls)
	}
	ask(handOverPartitions, before)
	w.callsOf(before)

	const more = handOverPartitions + 4
	w.grow(handOverRequests, 4)
	grown := time.Now()
	w.requests = w.manual() // knows the new ones
	ask(more, all)
	t.Logf("answered in all partitions %.1f s after some were added", time.Since(grown).Seconds())
	w.callsOf(all)
	const note = "it has 12, and the table 8: requests in the further ones go through the loop topic"
	for _, p := range []*process{first, second} {
		p.awaitText(note)
		if status, body := readyz(t, p); status != http.StatusOK || !strings.Contains(body, note) {
			t.Errorf("/readyz: %d %s", status, body)
		}
	}

	w.grow(handOverTable, 4)
	first.awaitText("it has 12, of which 8 are used")
	ask(more, all)
	first.signal(syscall.SIGKILL)
	first.wait()
	ask(more, all)
	third := w.instance(file)
	third.await("ready ")
	third.until("an assignment of half of the partitions", func(lines []string, _ bool) bool {
		return len(lastAssignment(lines)) == handOverPartitions/2
	})
	ask(more, all+8)
	w.callsOf(all + 8)
	if _, body := readyz(t, third); !strings.Contains(body, note) || !strings.Contains(body, "of which 8 are used") {
		t.Errorf("/readyz: %s", body)
	}
}
