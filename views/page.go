package views

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"kafkagrpc/topology"
)

// The page is one file without anything from elsewhere. It asks the same API as everybody.
//
//go:embed page.html
var pageHTML []byte

// PagePath is where the page is. It shows nothing by itself, so that it needs no token.
const PagePath = "/"

// Page serves the page, and /v1/flow, which tells it what there is.
type Page struct {
	Topology func() *topology.Topology // that runs
	Ports    func() []int              // that the topology's listeners have, in their order; none before they have them
	Traces   string                    // what comes before a trace id in the address of a trace, such as http://127.0.0.1:16686/trace/; "" for no links
	Letters  bool                      // there are dead letters to be asked for
	Metrics  bool                      // there is /metrics
}

// Handlers are those of the page, by their patterns.
func (p Page) Handlers() map[string]http.Handler {
	policy := fmt.Sprintf("default-src 'none'; connect-src 'self'; img-src data:; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		hashOf("script"), hashOf("style"))
	return map[string]http.Handler{
		"GET /{$}": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", policy)
			w.Header().Set("Cache-Control", "no-cache")
			_, _ = w.Write(pageHTML)
		}),
		"GET /v1/flow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			body, err := json.Marshal(p.flow())
			if err != nil {
				fail(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(body)
		}),
	}
}

// hashOf allows what is between the tags of the page, and nothing else.
func hashOf(tag string) string {
	_, rest, _ := strings.Cut(string(pageHTML), "<"+tag+">")
	content, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

type flowJSON struct {
	Namespace string         `json:"namespace"`
	Listeners []listenerJSON `json:"listeners"`
	Remotes   []remoteJSON   `json:"remotes"`
	Traces    string         `json:"traces"`
	Letters   bool           `json:"letters"`
	Metrics   bool           `json:"metrics"`
}

type listenerJSON struct {
	Host string `json:"host"`
	Port int    `json:"port"` // 0: not known yet
	TLS  bool   `json:"tls"`
}

type remoteJSON struct {
	Binding string      `json:"binding"`
	Group   string      `json:"group"`
	Inputs  []string    `json:"inputs"`
	Outputs []string    `json:"outputs"`
	Routes  []routeJSON `json:"routes"`
}

type routeJSON struct {
	Address string `json:"address"`
}

func (p Page) flow() flowJSON {
	t := p.Topology()
	f := flowJSON{Namespace: t.Namespace, Listeners: []listenerJSON{}, Remotes: []remoteJSON{}, Traces: p.Traces, Letters: p.Letters, Metrics: p.Metrics}
	ports := p.Ports()
	for i, l := range t.Listeners {
		port := l.Port
		if i < len(ports) {
			port = ports[i] // the file may leave the choice to the system
		}
		f.Listeners = append(f.Listeners, listenerJSON{l.Host, port, l.TLS != nil})
	}
	for _, r := range t.Remotes {
		remote := remoteJSON{Binding: r.Binding, Group: r.Group, Inputs: r.Inputs(), Outputs: r.Outputs(), Routes: []routeJSON{}}
		for _, route := range r.Routes {
			remote.Routes = append(remote.Routes, routeJSON{route.Target.Address})
		}
		f.Remotes = append(f.Remotes, remote)
	}
	return f
}
