// Package access decides who may use the admin address beyond its probes: whoever reaches the loopback interface of this
// machine, or shows the token, or has logged in with it by a browser, or shows a certificate.
//
// It knows nothing of what is served.
package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/internal/jsonanswer"
)

const (
	minToken = 16 // bytes: less can be guessed
	maxToken = 4 << 10

	cookieName = "kafka-grpc"
	// sessionTime is how long a browser need not log in again.
	sessionTime = 12 * time.Hour

	// LoginPath takes the token of a browser, which gets a cookie for it.
	LoginPath = "/v1/login"
)

// ReadToken reads the token from a file. Space around it does not count.
func ReadToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the token of the admin address: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("the token of the admin address: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || len(text) > maxToken {
		return "", fmt.Errorf("the token of the admin address: %s has %d bytes, a token has from %d to %d; `openssl rand -hex 32` makes one",
			path, len(token), minToken, maxToken)
	}
	return token, nil
}

// Loopback reports whether only this machine can reach an address, given as host:port.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Guard stands before a handler.
type Guard struct {
	Token    string   // "": none is good
	Clients  bool     // a certificate of a client is good; the server has checked it
	Loopback bool     // only this machine can reach the address; without Token and Clients, everybody on it may ask everything
	Open     []string // paths that need no token, because they show nothing: the page itself
}

// Wrap is the guard before a handler. All requests that change something must come from pages of this server, or from
// programs; those to a loopback address must name it, or else a page of somewhere else could ask under a name of its own.
func (g Guard) Wrap(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+LoginPath, g.login)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !g.allowed(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="kafka-grpc"`)
			message := "the token is missing or wrong: give it as header `Authorization: Bearer TOKEN`"
			switch {
			case g.Token == "":
				message = "show a certificate of a client"
			case g.Clients:
				message += ", or show a certificate of a client"
			}
			jsonanswer.Fail(w, http.StatusUnauthorized, "unauthenticated", message)
			return
		}
		next.ServeHTTP(w, r)
	})
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		jsonanswer.Fail(w, http.StatusForbidden, "permission_denied", "the request comes from a page of another origin")
	}))
	protected := crossOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.Loopback && !loopbackName(r.Host) {
			jsonanswer.Fail(w, http.StatusForbidden, "permission_denied", fmt.Sprintf("the request names the host %q: only localhost and loopback addresses are served here", r.Host))
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Referrer-Policy", "no-referrer")
		protected.ServeHTTP(w, r)
	})
}

func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (g Guard) allowed(r *http.Request) bool {
	if g.Token == "" && !g.Clients || (r.Method == http.MethodGet || r.Method == http.MethodHead) && slices.Contains(g.Open, r.URL.Path) {
		return true
	}
	if g.Clients && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	if g.Token == "" {
		return false
	}
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(given, g.Token)
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && g.session(cookie.Value, time.Now())
}

// same compares in a time that tells nothing of the token, its length included.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// login answers a cookie for the token. The body is JSON, which no form of another site can send.
func (g Guard) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		jsonanswer.Fail(w, http.StatusUnsupportedMediaType, "invalid_argument", "the body is JSON: {\"token\": \"...\"}")
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2*maxToken)).Decode(&body); err != nil {
		jsonanswer.Fail(w, http.StatusBadRequest, "invalid_argument", "the body is JSON: {\"token\": \"...\"}")
		return
	}
	if g.Token == "" || !same(strings.TrimSpace(body.Token), g.Token) {
		jsonanswer.Fail(w, http.StatusUnauthorized, "unauthenticated", "the token is wrong")
		return
	}
	ends := time.Now().Add(sessionTime)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: g.sign(ends.Unix()), Path: "/", MaxAge: int(sessionTime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.WriteHeader(http.StatusNoContent)
}

// sign makes the value of a cookie: when it ends, and that we have said so. Another token makes it worthless.
func (g Guard) sign(ends int64) string {
	text := strconv.FormatInt(ends, 10)
	mac := hmac.New(sha256.New, []byte(g.Token))
	mac.Write([]byte("session " + text))
	return text + "." + hex.EncodeToString(mac.Sum(nil))
}

func (g Guard) session(value string, now time.Time) bool {
	text, _, _ := strings.Cut(value, ".")
	ends, err := strconv.ParseInt(text, 10, 64)
	return err == nil && now.Unix() < ends && same(value, g.sign(ends))
}
