package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/internal/admin/access"
	"kafkagrpc/internal/texttable"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

const (
	// keysTime is how long one answer may take, as only a watch may take longer.
	keysTime = 30 * time.Second
	// watchSilence is how long a watch waits for a message: every 5 seconds there is one, also without a change.
	watchSilence = 30 * time.Second
	// watchAge is how far behind a watch may be until a note says so.
	watchAge = 30 * time.Second
)

func newKeysCommand(env func(string) (string, bool)) *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Ask what happened to idempotency keys",
		Long: `Asks an instance that runs, or one of kafka-grpc views, on its admin address. Each knows all keys, but with --views=local, where
only get works, and with --views=off.

A key of the table is a correlation id: mostly the idempotency key, "-", and a hash of the method. "keys list --prefix" finds it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q of keys: it is get, list or watch", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKeysGetCommand(), newKeysListCommand(env), newKeysWatchCommand(env))
	return c
}

// keysFlags are those of all commands that ask for keys.
type keysFlags struct {
	addr, tokenFile, group, output string
	tls                            access.Files
}

func (f *keysFlags) define(c *cobra.Command, output string) {
	c.Flags().StringVar(&f.addr, "admin-addr", defaultAdminAddr, "host:port of the instance to ask, as its ready line has it")
	c.Flags().StringVar(&f.tokenFile, "admin-token-file", "", "file with the token of the admin address, where it takes one")
	c.Flags().StringVar(&f.tls.CA, "admin-ca-file", "", "PEM file with the CA of the admin address, where it is HTTPS")
	c.Flags().StringVar(&f.tls.Certificate, "admin-client-cert-file", "", "PEM file with a certificate to show, where it takes one")
	c.Flags().StringVar(&f.tls.Key, "admin-client-key-file", "", "PEM file with the key of that certificate")
	c.Flags().StringVar(&f.group, "group", "", "the consumer group whose table is asked, where the instance has several")
	c.Flags().StringVarP(&f.output, "output", "o", output, "format: table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// client checks the flags and answers who is asked.
func (f *keysFlags) client() (viewspb.ViewsClient, error) {
	if f.output != "table" && f.output != "json" {
		return nil, usageError{fmt.Errorf("unknown output format %q: it is table or json", f.output)}
	}
	if _, port, err := net.SplitHostPort(f.addr); err != nil || port == "0" {
		return nil, usageError{fmt.Errorf("--admin-addr %q: it is host:port of the instance to ask", f.addr)}
	}
	token := ""
	if f.tokenFile != "" {
		var err error
		if token, err = access.ReadToken(f.tokenFile); err != nil {
			return nil, usageError{fmt.Errorf("--admin-token-file: %w", err)}
		}
	}
	secured, err := f.tls.Client()
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin-ca-file, --admin-client-cert-file, --admin-client-key-file: %w", err)}
	}
	scheme := "http://"
	if secured != nil {
		scheme = "https://"
	}
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: keysTime,
		TLSClientConfig: secured, ForceAttemptHTTP2: true,
		DisableKeepAlives: true, // no connection stays behind
	}
	return viewspb.NewViewsClient(&http.Client{Transport: bearer{transport, token}}, scheme+f.addr), nil
}

// bearer shows a token with each request.
type bearer struct {
	next  *http.Transport
	token string
}

// CloseIdleConnections is for http.Client.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

// told is an error of the API for the terminal.
func (f *keysFlags) told(err error) error {
	var coded *connect.Error
	if !errors.As(err, &coded) {
		return err
	}
	switch coded.Code() {
	case connect.CodeUnavailable:
		if !connect.IsWireError(err) {
			return fmt.Errorf("no answer from %s; is an instance running there, and is it --admin-addr? %w", f.addr, err)
		}
	case connect.CodeUnauthenticated:
		return fmt.Errorf("%s wants a token: name the file with --admin-token-file: %w", f.addr, err)
	case connect.CodeInvalidArgument:
		return usageError{errors.New(coded.Message())}
	}
	return errors.New(coded.Message())
}

func newKeysGetCommand() *cobra.Command {
	var f keysFlags
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Show what happened to one key",
		Long:  `Prints all that is known of a key, with metadata and messages. Exit code 1 says that nothing is: never seen, or expired.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("which key? name one")}
			}
			return nil
		},
		ValidArgsFunction: f.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), keysTime)
			defer cancel()
			request := &viewspb.GetRequest{Group: f.group}
			if request.Key = args[0]; strings.ToValidUTF8(args[0], "") != args[0] {
				request.Key, request.RawKey = "", []byte(args[0])
			}
			response, err := client.Get(ctx, connect.NewRequest(request))
			if err != nil {
				return f.told(err)
			}
			if f.output == "json" {
				return printJSON(c.OutOrStdout(), response.Msg, true)
			}
			return printStory(c.OutOrStdout(), response.Msg)
		},
	}
	f.define(c, "table")
	return c
}

// completeKeys offers the keys that begin with what is there.
func (f *keysFlags) completeKeys(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	const stop = cobra.ShellCompDirectiveNoFileComp
	client, err := f.client()
	if err != nil || len(args) > 0 {
		return nil, stop
	}
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
	defer cancel()
	response, err := client.List(ctx, connect.NewRequest(&viewspb.ListRequest{Group: f.group, Filter: &viewspb.Filter{Prefix: begin}, Limit: 50}))
	if err != nil {
		return nil, stop
	}
	var keys []string
	for _, e := range response.Msg.Entries {
		if len(e.RawKey) == 0 { // else a shell could not say it
			keys = append(keys, e.Key)
		}
	}
	return keys, stop
}

// filterFlags are those of commands that ask for many keys.
type filterFlags struct {
	filter       viewspb.Filter
	since, until string
}

func (f *filterFlags) define(c *cobra.Command) {
	l := c.Flags()
	l.StringVar(&f.filter.Prefix, "prefix", "", "only keys that begin with this")
	l.StringVar(&f.filter.Service, "service", "", "only calls of this service, such as grpc.examples.echo.Echo")
	l.StringVar(&f.filter.Method, "method", "", "only calls of this method, such as UnaryEcho")
	l.StringVar(&f.filter.Status, "status", "", "only results with this gRPC status, such as NOT_FOUND")
	l.StringVar(&f.filter.State, "state", "", "only keys in this state: open, final or retryable")
	l.StringVar(&f.since, "since", "", "only results from then on: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m")
	l.StringVar(&f.until, "until", "", "only results before then, as --since")
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"open", "final", "retryable"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(wire.StatusNames, cobra.ShellCompDirectiveNoFileComp))
}

func (f *filterFlags) parse(now time.Time) (*viewspb.Filter, error) {
	for _, of := range []struct{ flag, text string }{{"--prefix", f.filter.Prefix}, {"--service", f.filter.Service}, {"--method", f.filter.Method}} {
		if !utf8.ValidString(of.text) {
			return nil, usageError{fmt.Errorf("%s %q: it is not UTF-8, and a filter is: give the part of it that is", of.flag, of.text)}
		}
	}
	filter := proto.CloneOf(&f.filter)
	for _, at := range []struct {
		flag, text string
		to         **timestamppb.Timestamp
	}{{"--since", f.since, &filter.Since}, {"--until", f.until, &filter.Until}} {
		if at.text == "" {
			continue
		}
		moment, err := time.Parse(time.RFC3339, at.text)
		if ago, errAgo := time.ParseDuration(at.text); errAgo == nil && ago >= 0 {
			moment, err = now.Add(-ago), nil
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s %q: it is a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m", at.flag, at.text)}
		}
		*at.to = timestamppb.New(moment)
	}
	return filter, nil
}

func newKeysListCommand(env func(string) (string, bool)) *cobra.Command {
	var f keysFlags
	var filter filterFlags
	var limit int
	var cursor string
	c := &cobra.Command{
		Use:   "list",
		Short: "Show keys in their order",
		Long: `Prints the keys that all given filters let through, in their order. The table is cut to the terminal, or to the width in COLUMNS;
-o json has everything but metadata and messages, one key a line.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError{fmt.Errorf("--limit %d: it is a number of keys, 0 for all", limit)}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			request := &viewspb.ListRequest{Group: f.group, Cursor: cursor}
			if request.Filter, err = filter.parse(time.Now()); err != nil {
				return err
			}
			l := keyList{out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: f.output == "json", columns: columnsOf(env, c.OutOrStdout())}
			return f.told(l.print(c.Context(), client, request, limit))
		},
	}
	f.define(c, "table")
	filter.define(c)
	c.Flags().IntVar(&limit, "limit", 100, "the most keys to print; 0: all")
	c.Flags().StringVar(&cursor, "cursor", "", "go on where a list with the same filters ended, which said it")
	return c
}

// keyList prints keys page by page.
type keyList struct {
	out, notes io.Writer
	json       bool
	columns    int
}

func (l keyList) print(ctx context.Context, client viewspb.ViewsClient, request *viewspb.ListRequest, limit int) error {
	const page = 1000
	printed := 0
	var columns *texttable.Columns
	for {
		request.Limit = page
		if limit > 0 {
			request.Limit = int32(min(page, limit-printed))
		}
		response, err := l.page(ctx, client, request)
		if err != nil {
			return err
		}
		printed += len(response.Entries)
		if l.json {
			for _, e := range response.Entries {
				if err := printJSON(l.out, e, false); err != nil {
					return err
				}
			}
		} else if len(response.Entries) > 0 {
			var rows [][]string
			if columns == nil {
				rows = append(rows, keyColumns)
			}
			for _, e := range response.Entries {
				rows = append(rows, keyRow(e))
			}
			if columns == nil { // as wide as the first page wants it
				fixed := texttable.Fixed(rows, l.columns, "STATUS", "KEY", "FINISHED")
				columns = &fixed
			}
			if err := columns.Write(l.out, rows); err != nil {
				return err
			}
		}
		request.Cursor = response.NextCursor
		if request.Cursor == "" || limit > 0 && printed == limit {
			return l.note(printed, response)
		}
	}
}

func (l keyList) page(ctx context.Context, client viewspb.ViewsClient, request *viewspb.ListRequest) (*viewspb.ListResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	response, err := client.List(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

func (l keyList) note(printed int, last *viewspb.ListResponse) error {
	text := fmt.Sprintf("%d keys", printed)
	if printed == 1 {
		text = "1 key"
	}
	text += ", as of " + last.Freshness.AsOf.AsTime().Format(time.RFC3339)
	if last.NextCursor != "" {
		text += "; there may be more: --cursor " + last.NextCursor
	}
	_, err := fmt.Fprintln(l.notes, text)
	return err
}

func newKeysWatchCommand(env func(string) (string, bool)) *cobra.Command {
	var f keysFlags
	var filter filterFlags
	var cursor string
	var recent int32
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show keys as they get their results",
		Long: `Prints a line for each result that all given filters let through, until it is interrupted. -o json has one change a line, and the
cursor to go on after it. Notes on standard error say when the view falls behind what happens, and when it has caught up again.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			request := &viewspb.WatchRequest{Group: f.group, Cursor: cursor, Recent: recent}
			if request.Filter, err = filter.parse(time.Now()); err != nil {
				return err
			}
			w := keyWatch{out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: f.output == "json", columns: columnsOf(env, c.OutOrStdout()), silence: watchSilence}
			return f.told(w.print(c.Context(), client, request))
		},
	}
	f.define(c, "table")
	filter.define(c)
	c.Flags().StringVar(&cursor, "cursor", "", "go on after the change that had this cursor, in place of from now")
	c.Flags().Int32Var(&recent, "recent", 0, "begin with so many of the last changes, as far as the instance has them in memory")
	return c
}

// keyWatch prints changes as they come.
type keyWatch struct {
	out, notes io.Writer
	json       bool
	columns    int
	silence    time.Duration // how long it waits for a message
	behind     bool          // a note said so
	cursor     string        // of the last message
}

// print answers nil only when ctx ends.
func (w *keyWatch) print(ctx context.Context, client viewspb.ViewsClient, request *viewspb.WatchRequest) error {
	heard, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(w.silence, func() {
		cancel(fmt.Errorf("nothing was heard for %s, and an instance tells every 5s that it is there: it is stuck, or cannot be reached any more", w.silence))
	})
	defer silence.Stop()
	err := w.follow(heard, silence, client, request)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted, as it should be
	case heard.Err() != nil:
		err = context.Cause(heard)
	}
	if w.cursor != "" {
		_, failed := fmt.Fprintln(w.notes, "it goes on where it ended with --cursor "+w.cursor)
		err = errors.Join(err, failed)
	}
	return err
}

// follow prints until the stream ends, which it says why.
func (w *keyWatch) follow(ctx context.Context, silence *time.Timer, client viewspb.ViewsClient, request *viewspb.WatchRequest) error {
	stream, err := client.Watch(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // nothing is sent to it any more, and why it ended is known
	// What comes is not known yet: as wide as it mostly is.
	sample := []string{strings.Repeat("k", 69), "2006-01-02T15:04:05Z", "DEADLINE_EXCEEDED", "retryable", strings.Repeat("m", 40), "99", strings.Repeat("e", 40)}
	columns := texttable.Fixed([][]string{keyColumns, sample}, w.columns, "STATUS", "KEY", "FINISHED")
	if !w.json {
		if err := columns.Write(w.out, [][]string{keyColumns}); err != nil {
			return err
		}
	}
	for stream.Receive() {
		silence.Reset(w.silence)
		m := stream.Msg()
		w.cursor = m.Cursor
		if err := w.age(m.Freshness); err != nil {
			return err
		}
		var row []string
		switch change := m.Change.(type) {
		case *viewspb.WatchResponse_Entry:
			row = keyRow(change.Entry)
		case *viewspb.WatchResponse_Removed:
			row = []string{keyOf(change.Removed), "-", "-", "removed", "-", "-", "-"}
		default:
			continue // it only tells how fresh the watch is
		}
		if w.json {
			err = printJSON(w.out, m, false)
		} else {
			err = columns.Write(w.out, [][]string{row})
		}
		if err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the watch ended without an error")
}

// age notes when the view falls behind, and when it has caught up again.
func (w *keyWatch) age(f *viewspb.Freshness) error {
	if f.GetAsOf() == nil {
		return nil // it is catching up from a cursor
	}
	age := time.Duration(f.GetAgeMs()) * time.Millisecond
	was := w.behind
	w.behind = age > watchAge
	var err error
	switch {
	case w.behind && !was:
		_, err = fmt.Fprintf(w.notes, "the view is behind: it has what was there at %s, %s ago; what came later is shown when it was read\n", momentOf(f.AsOf), age.Round(time.Second))
	case was && !w.behind:
		_, err = fmt.Fprintf(w.notes, "the view has caught up, as of %s\n", momentOf(f.AsOf))
	}
	return err
}

var keyColumns = []string{"KEY", "FINISHED", "STATUS", "STATE", "METHOD", "TRIES", "MESSAGE"}

// keyOf is a key as a person can read it: quoted, with all of its bytes, where it is no text.
func keyOf(of interface {
	GetKey() string
	GetRawKey() []byte
}) string {
	if raw := of.GetRawKey(); len(raw) > 0 {
		return texttable.Text(string(raw))
	}
	return texttable.Text(of.GetKey())
}

func keyRow(e *viewspb.Entry) []string {
	if e.Unreadable != "" {
		return []string{keyOf(e), "-", "-", "unreadable", "-", "-", texttable.Text(e.Unreadable)}
	}
	message := "-"
	if e.Message != "" {
		message = texttable.Text(e.Message)
	}
	return []string{keyOf(e), momentOf(e.Finished), e.Status, e.State, texttable.Text(e.Service + "/" + e.Method), fmt.Sprint(e.Attempts), message}
}

func momentOf(at *timestamppb.Timestamp) string {
	if at == nil {
		return "-"
	}
	return at.AsTime().Format(time.RFC3339)
}

// printStory prints all that is known of a key, a line each.
func printStory(out io.Writer, r *viewspb.GetResponse) error {
	e := r.Entry
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-15s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("key", "%s", keyOf(e))
	line("group", "%s", e.Group)
	if e.Unreadable != "" {
		line("unreadable", "%s", texttable.Text(e.Unreadable))
		_, err := io.WriteString(out, b.String())
		return err
	}
	line("status", "%s (%d)", e.Status, e.Code)
	if e.Message != "" {
		line("message", "%s", texttable.Text(e.Message))
	}
	line("state", "%s", e.State)
	line("method", "%s", texttable.Text(e.Service+"/"+e.Method))
	line("correlation id", "%s", texttable.Text(e.CorrelationId))
	line("target", "%s", texttable.Text(e.Target))
	line("tries", "%d", e.Attempts)
	if s := e.Source; s != nil {
		line("request", "%s %d@%d of %s", s.Topic, s.Partition, s.Offset, momentOf(s.Timestamp))
	}
	took := ""
	if e.Started != nil && e.Finished != nil {
		took = fmt.Sprintf(" (%s)", e.Finished.AsTime().Sub(e.Started.AsTime()))
	}
	line("started", "%s", momentOf(e.Started))
	line("finished", "%s%s", momentOf(e.Finished), took)
	line("expires", "%s", momentOf(e.Expires))
	if e.TraceId != "" {
		line("trace", "%s", e.TraceId)
	}
	printMetadata(line, "metadata", e.Metadata)
	for i, m := range e.Messages {
		name := fmt.Sprintf("message %d", i+1)
		if m.Json == nil {
			line(name, "%d bytes, not decoded: %s", len(m.Data), texttable.Text(m.Undecoded))
			continue
		}
		text, err := compactJSON(m.Json)
		if err != nil {
			return err
		}
		line(name, "%s", texttable.JSON(text))
	}
	printMetadata(line, "trailer", e.Trailers)
	line("as of", "%s", momentOf(r.Freshness.AsOf))
	_, err := io.WriteString(out, b.String())
	return err
}

func printMetadata(line func(name, format string, args ...any), name string, fields []*viewspb.Metadata) {
	for _, f := range fields {
		if len(f.RawValue) > 0 {
			line(name, "%s: %x", texttable.Text(f.Name), f.RawValue)
			continue
		}
		line(name, "%s: %s", texttable.Text(f.Name), texttable.Text(f.Value))
	}
}

// compactJSON is always the same for the same message, which protojson on its own is not.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, text)
	return b.Bytes(), err
}

func printJSON(out io.Writer, m proto.Message, indent bool) error {
	text, err := compactJSON(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if indent {
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
	} else {
		b.Write(text)
	}
	b.WriteByte('\n')
	_, err = out.Write(b.Bytes())
	return err
}
