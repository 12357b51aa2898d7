package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/admin/access"
)

// healthAnswer is how much of an answer is read: it names parts and reasons, and is shown.
const healthAnswer = 64 << 10

func newHealthCommand() *cobra.Command {
	var address, certificate string
	var live bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a running instance whether it is ready",
		Long: `Requests /readyz from the admin address, or /livez with --live, and prints the answer. The exit code is 0 if the instance is
ready, and 1 if it is not or cannot be reached. This is for health checks of containers that contain no other HTTP client.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			path := "/readyz"
			if live {
				path = "/livez"
			}
			url, err := healthURL(address, path)
			if err != nil {
				return usageError{err}
			}
			if timeout <= 0 {
				return usageError{errors.New("--timeout must be above 0")}
			}
			ctx, cancel := context.WithTimeoutCause(c.Context(), timeout, fmt.Errorf("no answer within %v", timeout))
			defer cancel()
			transport := &http.Transport{DisableKeepAlives: true}
			if certificate != "" {
				if transport.TLSClientConfig, err = access.Pinned(certificate); err != nil {
					return usageError{fmt.Errorf("--admin-cert-file: %w", err)}
				}
				url = strings.Replace(url, "http://", "https://", 1)
			}
			answer, err := askHealth(ctx, url, transport)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), answer)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&address, "admin-addr", defaultAdminAddr, "admin address of the instance, as given to run")
	f.StringVar(&certificate, "admin-cert-file", "", "certificate of the admin address, as given to run: use HTTPS and require this certificate")
	f.BoolVar(&live, "live", false, "request /livez instead of /readyz")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	return c
}

// healthURL is where an instance with this admin address can be asked from beside it: an address that listens on all
// interfaces listens on loopback too.
func healthURL(address, path string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || port == "0" {
		return "", fmt.Errorf("--admin-addr %q: it is HOST:PORT, as run shows it in its line `ready`", address)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port) + path, nil
}

// askHealth answers the body of a 200, and an error with the body of anything else.
func askHealth(ctx context.Context, url string, transport *http.Transport) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", url, err)
	}
	// A client of its own: no proxy of the environment stands between a container and itself, and no connection stays.
	client := http.Client{Transport: transport}
	response, err := client.Do(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("asking %s: %w", url, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, healthAnswer))
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", url, err)
	}
	answer := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", url, response.Status, answer)
	}
	return answer, nil
}
