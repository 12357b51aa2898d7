// Package jsonanswer is how the HTTP API of the admin address answers, and how it tells every error. It knows nothing of what is asked.
package jsonanswer

import (
	"encoding/json"
	"net/http"
)

// Error is the body of every error. Its code is a gRPC status as Connect spells it, such as not_found.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Write answers with a body that encoding/json can encode, which nobody may keep.
func Write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked may be gone
}

// Fail answers with an error.
func Fail(w http.ResponseWriter, status int, code, message string) {
	Write(w, status, Error{code, message})
}
