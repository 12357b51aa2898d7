package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What the page does with dead letters, also when others ask for it.
func TestDeadLettersOverHTTP(t *testing.T) {
	b := newLettersBench(t)
	address, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state)
	defer stop()
	b.produce(requestRecord("mistaken", "other-responses"))
	letter := b.awaitLetters(1)[0]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	ask := func(method, path, body string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	status, body := ask("GET", "/v1/dead-letters", "")
	var listed struct {
		Topics []struct {
			Topic   string
			Found   int
			Letters []struct{ Letter, Reason string }
		}
	}
	if err := json.Unmarshal([]byte(body), &listed); err != nil || status != 200 || len(listed.Topics) != 1 || listed.Topics[0].Topic != lettersTopic ||
		listed.Topics[0].Found != 1 || listed.Topics[0].Letters[0].Letter != letter.Letter {
		t.Errorf("status %d, %v: %s", status, err, body)
	}
	if strings.Contains(body, "hunter2") {
		t.Error("a credential is shown")
	}

	for query, found := range map[string]string{
		"": `"found":1`, "?reason=unknown_reply_topic": `"found":1`, "?reason=NO%20correlation": `"found":0`, "?method=UnaryEcho&key-prefix=mis": `"found":1`,
		"?method=grpc.examples.echo.Echo/Other": `"found":0`, "?since=1h": `"found":1`, "?until=1h": `"found":0`, "?since=2099-01-01T00:00:00Z": `"found":0`,
		"?since=": `"found":1`,
	} {
		if status, body := ask("GET", "/v1/dead-letters"+query, ""); status != 200 || !strings.Contains(body, found) {
			t.Errorf("%s: status %d: %s", query, status, body)
		}
	}
	for query, want := range map[string]string{
		"?colour=red": "colour: no such parameter: there are reason, method, since, until, key-prefix", "?since=never": `since \"never\": it is a time`,
		"?since=1m&until=1h": "until must be after since", "?reason=a&reason=b": "reason: it is given 2 times",
	} {
		if status, body := ask("GET", "/v1/dead-letters"+query, ""); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: status %d: %s", query, status, body)
		}
	}

	const replay = "/v1/dead-letters:replay"
	good := `{"topic": "` + lettersTopic + `", "letters": ["` + letter.Letter + `"]}`
	asJSON := []string{"Content-Type", "application/json"}
	b.unchanged("requests that are refused", func() {
		for _, test := range []struct {
			name, method, body string
			headers            []string
			status             int
			want               string
		}{
			{"a form of another site", "POST", good, []string{"Content-Type", "text/plain"}, 415, "JSON"},
			{"a page of another site", "POST", good, append([]string{"Sec-Fetch-Site", "cross-site"}, asJSON...), 403, "another origin"},
			{"a link", "GET", good, asJSON, 405, ""},
			{"no JSON", "POST", "replay all", asJSON, 400, "the body"},
			{"unknown field", "POST", `{"topics": []}`, asJSON, 400, "topics"},
			{"large body", "POST", `{"topic": "` + strings.Repeat("x", 100<<10) + `"}`, asJSON, 400, "too large"},
			{"no letters", "POST", `{"topic": "` + lettersTopic + `"}`, asJSON, 400, "letters: it takes from 1 to 100"},
			{"unknown topic", "POST", `{"topic": "echo-requests", "letters": ["0@0"]}`, asJSON, 400, "topic: it takes one of " + lettersTopic},
			{"no position", "POST", `{"topic": "` + lettersTopic + `", "letters": ["first"]}`, asJSON, 400, "first"},
			{"no such letter", "POST", `{"topic": "` + lettersTopic + `", "letters": ["0@999"]}`, asJSON, 400, "0@999"},
		} {
			if status, body := ask(test.method, replay, test.body, test.headers...); status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("%s: status %d: %s", test.name, status, body)
			}
		}
	})
	// It comes back as a new letter, as its cause is still there.
	if status, body := ask("POST", replay, good, asJSON...); status != 200 || !strings.Contains(body, `"replayed":1`) || !strings.Contains(body, "replayed to echo-requests") {
		t.Errorf("status %d: %s", status, body)
	}
	b.awaitLetters(1)
	b.unchanged("a second replay", func() {
		if status, body := ask("POST", replay, good, asJSON...); status != 200 || !strings.Contains(body, `"before":1`) {
			t.Errorf("status %d: %s", status, body)
		}
	})
}
