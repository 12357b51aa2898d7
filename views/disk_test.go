package views_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkagrpc/internal/disktest"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views"
)

// large is a row that takes space.
func large(r *rowpb.Row) {
	r.Messages = [][]byte{make([]byte, 100<<10)}
	_, _ = rand.Read(r.Messages[0])
}

// On a full disk a view answers from what it has until that is too old, and then says what is the matter. It comes back by itself.
func TestViewOnADiskThatFills(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.config = func(c *views.Config) { c.MaxAge = 4 * time.Second }
	disk := disktest.New(t, "24")
	b.put("a", aRow(large))
	i := b.start(disk.Dir)
	b.ready(i)
	disk.Fill()
	for n := range 4 {
		b.put(fmt.Sprint("later", n), aRow(large))
	}
	answered := false
	var body struct{ Code, Message string }
	b.eventually("there are no answers", func() bool {
		body.Code = ""
		status, _ := i.get(t, "/v1/keys/a", &body)
		answered = answered || status == http.StatusOK
		return status == http.StatusServiceUnavailable && body.Code == "unavailable"
	})
	if !answered {
		t.Error("what it had was not answered")
	}
	contains(t, body.Message, disk.Dir, "no space left on device", "make space there")
	if strings.Contains(body.Message, "Kafka") {
		t.Errorf("the reason is another one: %s", body.Message)
	}
	disk.Free()
	for n := range 4 {
		b.has(i, fmt.Sprint("later", n))
	}
}

// The same where the disk is full from the start, or before the view has caught up.
func TestViewThatDoesNotFitOnItsDisk(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*disktest.Disk){"from the start": (*disktest.Disk).Fill, "in the middle": func(*disktest.Disk) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2)
			disk := disktest.New(t, "24")
			for n := range 30 << 20 / (100 << 10) {
				b.put(fmt.Sprint("k", n), aRow(large))
			}
			before(disk)
			i := b.start(disk.Dir)
			b.eventually("the reason names the disk", func() bool {
				reason := i.NotReady()
				return strings.Contains(reason, disk.Dir) && strings.Contains(reason, "no space left on device")
			})
			disk.Grow("200")
			if name == "from the start" {
				disk.Free()
			}
			b.ready(i)
			if n := len(i.keys(t, "")); n != 30<<20/(100<<10) {
				t.Errorf("%d keys", n)
			}
		})
	}
}

// A store that shows to be corrupt only when it is read is recovered while the view runs.
func TestCorruptionThatARequestFinds(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	const n = 20
	for k := range n {
		b.put(fmt.Sprint("k", k), aRow(func(r *rowpb.Row) { large(r); r.Messages[0] = r.Messages[0][:3000] }))
	}
	i := b.started()
	i.stop()
	i = b.start(i.dir)
	b.ready(i)
	segments, err := filepath.Glob(filepath.Join(i.dir, group, topic+".0", "rows", "*.ldb"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	for _, name := range segments {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(make([]byte, 16<<10), 12<<10)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	failed := 0
	for k := range n {
		if status, _ := i.get(t, fmt.Sprint("/v1/keys/k", k), nil); status != http.StatusOK {
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("nothing was found corrupt")
	}
	for k := range n {
		b.has(i, fmt.Sprint("k", k))
	}
}
