package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
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
	if j.unknown == IgnoreUnknown {
		if err := j.unknownEnum(value); err != nil {
			return nil, err
		}
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
	reason := strings.ToValidUTF8(reasonOf(err), string(utf8.RuneError))
	found := where.FindStringSubmatchIndex(reason)
	lone, ends := loneSurrogate(value), strings.Contains(reason, "unexpected EOF")
	switch {
	case value[0] == 0:
		return &Error{Reason: seemsFramed}
	case marked(value):
		return &Error{Reason: "it begins with a byte order mark, and JSON is UTF-8 without one"}
	case lone >= 0 && (ends || strings.Contains(reason, "invalid escape code")):
		return &Error{Path: jsonPath(value, lone), Reason: fmt.Sprintf("%s is half a character: the other half has to follow", value[lone:lone+6])}
	case found == nil && ends:
		return &Error{Path: jsonPath(value, len(value)), Reason: reason}
	case found == nil && strings.Contains(reason, "recursion depth"):
		return &Error{Path: jsonPath(value, deepest(value)), Reason: tooDeep}
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
	if strings.HasPrefix(reason, "syntax error: unexpected token") && json.Valid(value) { // JSON it is, of another type
		_, reason, _ = strings.Cut(reason, ": ")
	}
	return &Error{Path: jsonPath(value, offsetOf(value, line, column)), Reason: reason}
}

// marked reports whether a text begins with the byte order mark of UTF-8 or UTF-16.
func marked(text []byte) bool {
	return slices.ContainsFunc([]string{"\xef\xbb\xbf", "\xfe\xff", "\xff\xfe"}, func(mark string) bool { return bytes.HasPrefix(text, []byte(mark)) })
}

// loneSurrogate is where the first escape of a surrogate is that lacks its other half; -1: nowhere.
func loneSurrogate(text []byte) int {
	unit := func(at int) uint64 {
		if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return 0
		}
		u, _ := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		return u
	}
	for at := 0; at < len(text); at++ {
		if text[at] != '\\' {
			continue
		}
		switch first := rune(unit(at)); {
		case !utf16.IsSurrogate(first):
			at++ // what is escaped may be a backslash
		case utf16.DecodeRune(first, rune(unit(at+6))) == utf8.RuneError:
			return at
		default:
			at += 11
		}
	}
	return -1
}

// deepest is where the innermost object or array of a text begins.
func deepest(text []byte) (at int) {
	d := json.NewDecoder(bytes.NewReader(text))
	for depth, most := 0, 0; ; {
		switch token, err := d.Token(); {
		case err != nil:
			return at
		case token == json.Delim('{') || token == json.Delim('['):
			if depth++; depth > most {
				most, at = depth, int(d.InputOffset())-1
			}
		case token == json.Delim('}') || token == json.Delim(']'):
			depth--
		}
	}
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

const tooDeep = "is nested too deep"

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
			path[top].key, path[top].hasKey, path[top].wantsKey = token.(string), true, false
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
	key      string // of an object
	hasKey   bool   // not before the first one
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
		case s.hasKey:
			text += "[" + strconv.Quote(s.key) + "]"
		}
		if len(text) > maxPath {
			break
		}
	}
	return clipPath(text)
}

// clipPath bounds a path.
func clipPath(text string) string {
	if len(text) > maxPath {
		text = strings.ToValidUTF8(text[:maxPath], "") + "..."
	}
	return text
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
