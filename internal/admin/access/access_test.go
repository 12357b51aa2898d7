package access_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/admin/access"
)

const token = "0123456789abcdef"

func guarded(t *testing.T, g access.Guard) func(method, path, host string, headers ...string) *http.Response {
	t.Helper()
	server := httptest.NewServer(g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })))
	t.Cleanup(server.Close)
	return func(method, path, host string, headers ...string) *http.Response {
		t.Helper()
		var body string
		if path == access.LoginPath {
			body, headers = headers[0], headers[1:]
		}
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	do := guarded(t, access.Guard{Token: token, Open: []string{"/"}})
	tests := []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"none", "GET", "/v1/keys", nil, 401},
		{"wrong", "GET", "/v1/keys", []string{"Authorization", "Bearer 0123456789abcdeF"}, 401},
		{"part of it", "GET", "/v1/keys", []string{"Authorization", "Bearer 0123456789"}, 401},
		{"empty", "GET", "/v1/keys", []string{"Authorization", "Bearer "}, 401},
		{"basic", "GET", "/v1/keys", []string{"Authorization", "Basic " + token}, 401},
		{"in the path", "GET", "/v1/keys?token=" + token, nil, 401},
		{"right", "GET", "/v1/keys", []string{"Authorization", "Bearer " + token}, 200},
		{"open path", "GET", "/", nil, 200},
		{"open path, other method", "POST", "/", nil, 401},
		{"cookie of nobody", "GET", "/v1/keys", []string{"Cookie", "kafka-grpc=99999999999.00"}, 401},
		{"host by any name", "GET", "/", nil, 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			response := do(test.method, test.path, "kafka.example", test.headers...)
			if response.StatusCode != test.want {
				t.Errorf("status %d, want %d", response.StatusCode, test.want)
			}
			if test.want == 401 && response.Header.Get("WWW-Authenticate") == "" {
				t.Error("it is not said how to get in")
			}
		})
	}
}

func TestLoginOfABrowser(t *testing.T) {
	t.Parallel()
	do := guarded(t, access.Guard{Token: token})
	other := guarded(t, access.Guard{Token: "another-token-of-16"})
	json := []string{"Content-Type", "application/json"}
	if got := do("POST", access.LoginPath, "", append([]string{`{"token":"wrong-wrong-wrong"}`}, json...)...); got.StatusCode != 401 || len(got.Cookies()) > 0 {
		t.Errorf("wrong token: %d", got.StatusCode)
	}
	if got := do("POST", access.LoginPath, "", `{"token":"`+token+`"}`, "Content-Type", "text/plain"); got.StatusCode != 415 {
		t.Errorf("a form: %d", got.StatusCode)
	}
	response := do("POST", access.LoginPath, "", append([]string{`{"token":"` + token + `"}`}, json...)...)
	if response.StatusCode != 204 || len(response.Cookies()) != 1 {
		t.Fatalf("status %d, cookies %v", response.StatusCode, response.Cookies())
	}
	cookie := response.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || strings.Contains(cookie.Value, token) {
		t.Errorf("cookie %v", cookie)
	}
	value := cookie.Name + "=" + cookie.Value
	if cookie.Secure {
		t.Error("the cookie is never sent back")
	}
	if got := do("POST", access.LoginPath, "", append([]string{`{"token":"` + strings.Repeat("x", 16<<10) + `"}`}, json...)...); got.StatusCode != 400 {
		t.Errorf("16 KiB of token: %d", got.StatusCode)
	}
	if got := do("GET", "/v1/keys", "", "Cookie", value); got.StatusCode != 200 {
		t.Errorf("with the cookie: %d", got.StatusCode)
	}
	ends, mac, _ := strings.Cut(cookie.Value, ".")
	if got := do("GET", "/v1/keys", "", "Cookie", cookie.Name+"="+ends+"9."+mac); got.StatusCode != 401 {
		t.Errorf("with a longer session: %d", got.StatusCode)
	}
	if got := other("GET", "/v1/keys", "", "Cookie", value); got.StatusCode != 401 {
		t.Errorf("with the cookie of another token: %d", got.StatusCode)
	}
}

// By HTTPS the cookie is never sent without.
func TestLoginByHTTPS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(access.Guard{Token: token}.Wrap(http.NotFoundHandler()))
	t.Cleanup(server.Close)
	response, err := server.Client().Post(server.URL+access.LoginPath, "application/json", strings.NewReader(`{"token":"`+token+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if cookies := response.Cookies(); len(cookies) != 1 || !cookies[0].Secure {
		t.Errorf("status %d, cookies %v", response.StatusCode, cookies)
	}
}

// No other page has this one in a frame, and no browser guesses what an answer is.
func TestHeadersOfAnswers(t *testing.T) {
	t.Parallel()
	got := guarded(t, access.Guard{Loopback: true})("GET", "/", "").Header
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
}

// A page of somewhere else must neither change anything, nor read by giving a name of its own to the loopback address.
func TestOtherPagesAreKeptOut(t *testing.T) {
	t.Parallel()
	do := guarded(t, access.Guard{Loopback: true})
	tests := []struct {
		name, method, host string
		headers            []string
		want               int
	}{
		{"a program", "POST", "", nil, 200},
		{"our page", "POST", "", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"another page", "POST", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another page, old browser", "POST", "", []string{"Origin", "https://evil.example"}, 403},
		{"rebound name", "GET", "evil.example", nil, 403},
		{"rebound name with port", "GET", "evil.example:7190", nil, 403},
		{"localhost", "GET", "localhost:7190", nil, 200},
		{"IPv6", "GET", "[::1]:7190", nil, 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := do(test.method, "/v1/x", test.host, test.headers...); got.StatusCode != test.want {
				t.Errorf("status %d, want %d", got.StatusCode, test.want)
			}
		})
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, token, err string }{
		"good":     {" " + token + "\n", token, ""},
		"empty":    {"\n", "", "has 0 bytes"},
		"short":    {"secret", "", "has 6 bytes"},
		"too long": {strings.Repeat("x", 5000), "", "to 4096"},
	} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := access.ReadToken(path)
		if got != test.token || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the token is told: %v", name, err)
		}
	}
	if _, err := access.ReadToken(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there")
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:7190": true, "127.9.9.9:1": true, "[::1]:7190": true, "localhost:7190": true,
		":7190": false, "0.0.0.0:7190": false, "[::]:7190": false, "10.0.0.1:7190": false, "nonsense": false,
	} {
		if got := access.Loopback(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
