package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
)

// browser is a page in a real browser.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string // on the console
}

func newBrowser(t *testing.T, url string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no browser: apt-get install chromium")
		}
		t.Skip("there is no browser: apt-get install chromium")
	}
	profile, err := os.MkdirTemp("", "kafka-grpc-browser")
	if err != nil {
		t.Fatal(err)
	}
	// Not of t.Context(), which ends before the cleanup: the browser would be killed, and its children still write.
	ctx, cancelTime := context.WithTimeout(context.Background(), patience)
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile), chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true))...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until the browser has ended
			t.Errorf("closing the browser: %v", err)
		}
		cancel()
		cancelAllocator()
		cancelTime()
		// A child of the browser may outlive it by a moment, and write to the profile.
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for deadline := time.Now().Add(patience); ; <-again.C {
			if err = os.RemoveAll(profile); err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("removing the browser's profile: %v", err)
				return
			}
		}
	})
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		text := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			text = e.ExceptionDetails.Error()
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError {
				text = "console.error"
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError {
				text = e.Entry.Text + " " + e.Entry.URL
			}
		}
		if text != "" {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.errors = append(b.errors, text)
		}
	})
	b.do("opening the page", log.Enable(), chromedp.Navigate(url))
	return b
}

func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v; on the console: %q; the page has: %s", what, err, b.console(), b.text("body"))
	}
}

func (b *browser) console() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.errors)
}

func (b *browser) text(selector string) (text string) {
	// For messages: what fails here fails elsewhere, too.
	_ = chromedp.Run(b.ctx, chromedp.Evaluate(`document.querySelector('`+selector+`')?.innerText ?? ''`, &text))
	return text
}

// until waits until an expression is true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	b.do(what, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(patience/3)))
}

func (b *browser) screenshot(name string) {
	b.t.Helper()
	var image []byte
	b.do("a screenshot", chromedp.FullScreenshot(&image, 100))
	path := filepath.Join(b.t.ArtifactDir(), name+".png")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("%s: %d bytes", path, len(image))
}

func TestPage(t *testing.T) {
	b := newLettersBench(t)
	stop := b.run(b.file)
	b.produce(requestRecord("mistaken", "other-responses"))
	b.awaitLetters(1)
	stop()
	b.file = b.fixed
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--jaeger-url", "http://127.0.0.1:16686/")
	defer stop()
	b.produce(callTo("a-1", "other-responses"), callTo("a-2", "other-responses"))
	b.await(address, "a-1", "list")

	p := newBrowser(t, "http://"+address+"/")
	p.until("the view is ready", `document.getElementById('state').textContent === 'ready'`)
	p.until("the flow", `document.getElementById('flow').innerText.includes('echo-requests') && document.getElementById('flow').innerText.includes('results a second')`)
	p.until("what the metrics tell", `['calls in flight', 'oldest call', 'requests not read'].every(k => document.getElementById('flow').innerText.includes(k))`)
	p.until("the lag of the partitions", `['echo-requests', '-table (view)'].every(k => document.getElementById('partitions').innerText.includes(k))`)
	p.until("the last changes", `['a-1', 'a-2'].every(k => document.getElementById('keys').innerText.includes(k))`)
	b.produce(callTo("live-1", "other-responses"))
	p.until("a live update", `document.getElementById('keys').innerText.includes('live-1')`)
	p.until("how fresh it is", `document.getElementById('keys-fresh').textContent.startsWith('complete up to 20')`)

	// By the keyboard alone: search, open, close.
	p.do("typing", chromedp.KeyEvent("/"))
	p.until("the search has the focus", `document.activeElement.id === 'query'`)
	// A real key would not also be typed, as one that is sent here is.
	p.do("typing", chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent("a-"), chromedp.KeyEvent(kb.Enter))
	p.until("the keys that were searched for", `document.querySelectorAll('#keys tr').length === 2 && !document.getElementById('keys').innerText.includes('live-1')`)
	p.do("going to the first key", chromedp.Focus("#keys a"), chromedp.KeyEvent(kb.Enter))
	p.until("the story", `document.getElementById('story').open && document.getElementById('story').innerText.includes('grpc.examples.echo.Echo/UnaryEcho')`)
	if story := p.text("#story"); !strings.Contains(story, "echo-requests") || !strings.Contains(story, `"message": "hi"`) {
		t.Errorf("the story is %s", story)
	}
	p.screenshot("story")
	p.do("closing", chromedp.KeyEvent(kb.Escape))
	p.until("it is closed, and the focus is back", `!document.getElementById('story').open && document.activeElement.tagName === 'A' && location.hash === ''`)

	const trace = "0af7651916cd43dd8448eb211c80319c"
	traced, err := proto.Marshal(&rowpb.Row{Version: 1, State: rowpb.State_STATE_FINAL, ExpiresMs: time.Now().Add(time.Hour).UnixMilli(), TraceId: trace})
	if err != nil {
		t.Fatal(err)
	}
	b.produce(&kgo.Record{Topic: "example-west_kafka_grpc_remote_server-table", Key: []byte("traced"), Value: traced})
	b.await(address, "traced", "list")
	p.do("following a link to a key", chromedp.Evaluate(`location.hash = '#key=traced'`, nil))
	p.until("the link to its trace", `document.querySelector('#story a')?.href === 'http://127.0.0.1:16686/trace/`+trace+`'`)
	p.do("closing", chromedp.KeyEvent(kb.Escape))

	p.do("asking for dead letters", chromedp.Click("#letters-load"))
	p.until("a dead letter", `document.querySelectorAll('#letters tr').length === 1`)
	p.do("replaying", chromedp.Click("#letters button"))
	p.until("the question", `document.querySelector('#letters button').textContent === 'Replay: sure?'`)
	p.do("replaying", chromedp.Click("#letters button"))
	p.until("the replay is done", `document.getElementById('letters').innerText.includes('replayed to echo-requests')`)
	p.do("the last changes", chromedp.Click("#live"))
	p.until("the replayed key", `document.getElementById('keys').innerText.includes('mistaken')`)
	p.screenshot("page")

	var ground, darkGround string
	const color = `getComputedStyle(document.body).backgroundColor`
	p.do("a phone in the dark", chromedp.Evaluate(color, &ground),
		emulation.SetDeviceMetricsOverride(390, 844, 2, true),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Evaluate(color, &darkGround))
	if ground == darkGround {
		t.Errorf("the ground is %s by day and night", ground)
	}
	p.until("all fits the width", `document.documentElement.scrollWidth <= 390`)
	p.screenshot("phone")
	if errs := p.console(); len(errs) > 0 {
		t.Errorf("on the console: %q", errs)
	}
}

func TestPageAsksForTheToken(t *testing.T) {
	b := newLettersBench(t)
	const token = "a-token-of-more-than-16-bytes"
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-token-file", secret)
	defer stop()
	b.produce(call("a-1"))
	b.await(address, "a-1", "list", "--admin-token-file", secret)
	p := newBrowser(t, "http://"+address+"/")
	p.until("the question for the token", `!document.getElementById('login').hidden && document.getElementById('content').hidden`)
	p.do("a wrong token", chromedp.SendKeys("#token", "wrong-wrong-wrong-wrong"+kb.Enter))
	p.until("it is told", `document.getElementById('login-error').textContent.includes('the token is wrong')`)
	p.do("the token", chromedp.SendKeys("#token", token+kb.Enter))
	p.until("the keys", `document.getElementById('login').hidden && document.getElementById('keys').innerText.includes('a-1')`)
	var everywhere string
	p.do("looking for the token", chromedp.Evaluate(`location.href + document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.documentElement.outerHTML`, &everywhere))
	if strings.Contains(everywhere, token) {
		t.Error("the page keeps the token")
	}
}
