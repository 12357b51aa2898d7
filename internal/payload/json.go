package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// UnknownFields says what becomes of a value that has fields which the message lacks.
type UnknownFields bool

const (
	RefuseUnknown UnknownFields = false // it does not fit
	IgnoreUnknown UnknownFields = true  // they are left out
)

// unframed is what reads values whose only schema is that of the message.
type unframed struct {
	message protoreflect.MessageDescriptor
	types   *dynamicpb.Types
	unknown UnknownFields
}

// Ready implements Decoder.
func (unframed) Ready([]byte) bool { return true }

// JSON reads and writes values by protobuf's JSON mapping.
type JSON struct{ unframed }

// NewJSON is the JSON of a message. unknown counts for what is read.
func NewJSON(message protoreflect.MessageDescriptor, unknown UnknownFields) *JSON {
	return &JSON{unframed{message, typesOf(message), unknown}}
}

// Decode implements Decoder.
func (j *JSON) Decode(_ context.Context, value []byte) ([]byte, error) {
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, &Error{Reason: "there is no JSON in it"}
	}
	m := dynamicpb.NewMessage(j.message)
	options := protojson.UnmarshalOptions{DiscardUnknown: bool(j.unknown), Resolver: j.types}
	if err := options.Unmarshal(value, m); err != nil {
		return nil, jsonError(value, err)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, &Error{Reason: reasonOf(err)}
	}
	return encoded, nil
}

// Encode implements Encoder. The same message gives the same text.
func (j *JSON) Encode(message []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(j.message)
	if err := (proto.UnmarshalOptions{Resolver: j.types}).Unmarshal(message, m); err != nil {
		return nil, fmt.Errorf("it is no %s: %s", j.message.FullName(), reasonOf(err))
	}
	loose, err := protojson.MarshalOptions{Resolver: j.types}.Marshal(m)
	if err != nil {
		return nil, errors.New(reasonOf(err))
	}
	var text bytes.Buffer
	if err := json.Compact(&text, loose); err != nil { // protojson varies its spaces
		return nil, err
	}
	return text.Bytes(), nil
}

// reasonOf is the text of an error of the protobuf library, which varies how it begins.
func reasonOf(err error) string {
	return strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
}

// where is how protojson tells the place of a mistake.
var where = regexp.MustCompile(` ?\(line (\d+):(\d+)\): `)

// jsonError is the error of a value that protojson does not take, with the path that its line and column lead to.
func jsonError(value []byte, err error) *Error {
	reason := reasonOf(err)
	found := where.FindStringSubmatchIndex(reason)
	switch {
	case found == nil && strings.Contains(reason, "unexpected EOF"):
		return &Error{Path: jsonPath(value, len(value)), Reason: reason}
	case found == nil:
		return &Error{Reason: reason}
	}
	line, _ := strconv.Atoi(reason[found[2]:found[3]])
	column, _ := strconv.Atoi(reason[found[4]:found[5]])
	if before := reason[:found[0]]; before != "" {
		reason = before + ": " + reason[found[1]:]
	} else {
		reason = reason[found[1]:]
	}
	return &Error{Path: jsonPath(value, offsetOf(value, line, column)), Reason: reason}
}

// offsetOf is where a line and a column, both from 1, are in a text.
func offsetOf(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return len(text)
		}
		at += next + 1
	}
	for ; column > 1 && at < len(text); column-- {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return at
}

// maxPath bounds a path that is told: a stranger wrote it.
const maxPath = 500

// jsonPath is the path of what is at an offset of a text, as far as that is JSON: $.items[2].price.
func jsonPath(text []byte, offset int) string {
	var path []step
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		reached := int(d.InputOffset()) > offset
		top := len(path) - 1
		switch delim, _ := token.(json.Delim); {
		case delim == '}' || delim == ']':
			path = path[:top]
			if reached { // what is missing is missing in the whole of it
				return pathText(path)
			}
		case top >= 0 && path[top].wantsKey:
			path[top].key, path[top].wantsKey = token.(string), false
			if reached {
				return pathText(path)
			}
			continue
		case reached:
			return pathText(path)
		case delim == '{' || delim == '[':
			path = append(path, step{object: delim == '{', wantsKey: delim == '{'})
			continue
		}
		if top = len(path) - 1; top >= 0 { // a value has ended
			path[top] = step{object: path[top].object, wantsKey: path[top].object, index: path[top].index + 1}
		}
	}
	return pathText(path)
}

// step is an object or an array that a path leads through.
type step struct {
	object   bool
	key      string // of an object, "" before the first one
	wantsKey bool   // the next token is one
	index    int
}

func pathText(path []step) string {
	text := "$"
	for _, s := range path {
		switch {
		case !s.object:
			text += "[" + strconv.Itoa(s.index) + "]"
		case plainKey.MatchString(s.key):
			text += "." + s.key
		case s.key != "":
			text += "[" + strconv.Quote(s.key) + "]"
		}
	}
	if len(text) > maxPath {
		text = strings.ToValidUTF8(text[:maxPath], "") + "..."
	}
	return text
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
