package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"kafkagrpc/internal/admin/access"
	"kafkagrpc/views/viewspb"
)

// keysFlags are those of all commands that ask for keys.
type keysFlags struct {
	addr, tokenFile, group, output string
	tls                            access.Files
}

func (f *keysFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.addr, "admin-addr", defaultAdminAddr, "host:port of the instance to ask, as in its ready line")
	c.Flags().StringVar(&f.tokenFile, "admin-token-file", "", "file with the token of the admin address, if it needs one")
	c.Flags().StringVar(&f.tls.CA, "admin-ca-file", "", "PEM file with the CA of the admin address, if it is HTTPS")
	c.Flags().StringVar(&f.tls.Certificate, "admin-client-cert-file", "", "PEM file with a client certificate, if the address needs one")
	c.Flags().StringVar(&f.tls.Key, "admin-client-key-file", "", "PEM file with the key of that certificate")
	c.Flags().StringVar(&f.group, "group", "", "the consumer group whose table to query, if the instance has several")
	c.Flags().StringVarP(&f.output, "output", "o", "table", "format: table or json")
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
	return viewspb.NewViewsClient(&http.Client{Transport: access.Bearer{Next: transport, Token: token}}, scheme+f.addr), nil
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
