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

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
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

func newBrowser(t *testing.T, url string, more ...chromedp.ExecAllocatorOption) *browser {
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
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, slices.Concat(chromedp.DefaultExecAllocatorOptions[:], more, []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile), chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true)})...)
	ctx, cancel := chromedp.NewContext(ctx)
	listening := make(chan struct{})
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until the browser has ended
			t.Errorf("closing the browser: %v", err)
		}
		cancel()
		<-listening
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
	messages := chromedp.Console(ctx)
	go func() {
		defer close(listening)
		for m, err := range messages {
			if err != nil { // the browser is closed
				return
			}
			if m.IsException() || m.Type == chromedp.ConsoleError {
				b.mu.Lock()
				b.errors = append(b.errors, m.String()+" "+m.URL)
				b.mu.Unlock()
			}
		}
	}()
	b.do("opening the page", chromedp.Navigate(url))
	return b
}

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v; on the console: %q; the page has: %s", what, err, b.console(), b.text("body"))
	}
}

func (b *browser) console() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.errors)
}

// evaluate is the value of an expression.
func (b *browser) evaluate(what, expression string) string {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return value
}

func (b *browser) text(selector string) (text string) {
	// For messages: what fails here fails elsewhere, too.
	text, _ = chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector('`+selector+`')?.innerText ?? ''`))
	return text
}

// until waits until an expression is true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	b.do(what, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience/3)))
}

func (b *browser) screenshot(name string) {
	b.t.Helper()
	image, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatalf("a screenshot: %v", err)
	}
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
	const trace = "0af7651916cd43dd8448eb211c80319c"
	traced, err := proto.Marshal(&rowpb.Row{Version: 1, State: rowpb.State_STATE_FINAL, ExpiresMs: time.Now().Add(time.Hour).UnixMilli(), TraceId: trace})
	if err != nil {
		t.Fatal(err)
	}
	b.produce(&kgo.Record{Topic: "example-west_kafka_grpc_remote_server-table", Key: []byte("traced"), Value: traced})
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
	p.do("going to the first key", chromedp.Focus(chromedp.CSS("#keys a")), chromedp.KeyEvent(kb.Enter))
	p.until("the story", `document.getElementById('story').open && document.getElementById('story').innerText.includes('grpc.examples.echo.Echo/UnaryEcho')`)
	if story := p.text("#story"); !strings.Contains(story, "echo-requests") || !strings.Contains(story, `"message": "hi"`) {
		t.Errorf("the story is %s", story)
	}
	p.screenshot("story")
	p.do("closing", chromedp.KeyEvent(kb.Escape))
	p.until("it is closed, and the focus is back", `!document.getElementById('story').open && document.activeElement.tagName === 'A' && location.hash === ''`)

	p.do("following a link to a key", chromedp.Evaluate[chromedp.Void](`location.hash = '#key=traced'; ({})`))
	p.until("the link to its trace", `document.querySelector('#story a')?.href === 'http://127.0.0.1:16686/trace/`+trace+`'`)
	p.do("closing", chromedp.KeyEvent(kb.Escape))

	const reason = `document.querySelector('#letters-filter [name=reason]').value = `
	p.do("a filter", chromedp.Evaluate[chromedp.Void](reason+`'nothing like it'; ({})`))
	p.do("asking for dead letters", chromedp.Click(chromedp.CSS("#letters-load")))
	p.until("no dead letter", `document.getElementById('letters-note').innerText.endsWith(': 0') && document.querySelectorAll('#letters tr').length === 0`)
	p.do("another filter", chromedp.Evaluate[chromedp.Void](reason+`'reply topic'; ({})`))
	p.do("asking for dead letters", chromedp.Click(chromedp.CSS("#letters-load")))
	p.until("a dead letter", `document.querySelectorAll('#letters tr').length === 1`)
	p.do("replaying", chromedp.Click(chromedp.CSS("#letters button")))
	p.until("the question", `document.querySelector('#letters button').textContent === 'Replay: sure?'`)
	p.do("replaying", chromedp.Click(chromedp.CSS("#letters button")))
	p.until("the replay is done", `document.getElementById('letters').innerText.includes('replayed to echo-requests')`)
	p.do("the last changes", chromedp.Click(chromedp.CSS("#live")))
	p.until("the replayed key", `document.getElementById('keys').innerText.includes('mistaken')`)
	p.screenshot("page")

	const color = `getComputedStyle(document.body).backgroundColor`
	ground := p.evaluate("the ground by day", color)
	p.do("a phone in the dark",
		chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
			})
			return err
		}))
	darkGround := p.evaluate("the ground by night", color)
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
	p.do("a wrong token", chromedp.SendKeys(chromedp.CSS("#token"), "wrong-wrong-wrong-wrong"+kb.Enter))
	p.until("it is told", `document.getElementById('login-error').textContent.includes('the token is wrong')`)
	p.do("the token", chromedp.SendKeys(chromedp.CSS("#token"), token+kb.Enter))
	p.until("the keys", `document.getElementById('login').hidden && document.getElementById('keys').innerText.includes('a-1')`)
	everywhere := p.evaluate("looking for the token", `location.href + document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.documentElement.outerHTML`)
	if strings.Contains(everywhere, token) {
		t.Error("the page keeps the token")
	}
}
