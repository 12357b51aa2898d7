package access

import "net/http"

// Bearer asks through Next and shows a token with each request; "" shows none. It is safe for concurrent use.
type Bearer struct {
	Next  *http.Transport
	Token string
}

// RoundTrip is for http.Client.
func (b Bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.Token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.Token)
	}
	return b.Next.RoundTrip(r)
}

// CloseIdleConnections is for http.Client.
func (b Bearer) CloseIdleConnections() { b.Next.CloseIdleConnections() }
