package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// Member sends heartbeats of a member of a consumer group, beside those of sarama, for one who needs to know that they
// are answered.
type Member struct {
	group, instance string
	client          sarama.Client
}

// NewMember connects to the cluster. A heartbeat takes up to about three times timeout.
func NewMember(c Cluster, group, instanceID string, timeout time.Duration) (*Member, error) {
	config := c.Config()
	config.Net.Proxy.Dialer = c.dialer(hasty(timeout))
	config.Metadata.Retry.Max = 0
	client, err := sarama.NewClient(c.Brokers, config)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", group, err)
	}
	return &Member{group: group, instance: instanceID, client: client}, nil
}

// Heartbeat answers nil when the coordinator counts the member among those of the group's generation, or waits for it in
// the next one; else what the coordinator says, or why it could not be asked.
func (m *Member) Heartbeat(memberID string, generation int32) error {
	coordinator, err := m.client.Coordinator(m.group)
	if err != nil {
		return fmt.Errorf("finding the coordinator of group %s: %w", m.group, err)
	}
	request := &sarama.HeartbeatRequest{Version: 4, GroupId: m.group, MemberId: memberID, GenerationId: generation}
	if m.instance != "" {
		request.GroupInstanceId = &m.instance
	}
	response, err := coordinator.Heartbeat(request)
	if err == nil && response.Err != sarama.ErrNoError && response.Err != sarama.ErrRebalanceInProgress {
		err = response.Err
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("heartbeat of %s in group %s: %w", memberID, m.group, err)
	// The next one goes to the coordinator of then, on a connection of its own.
	if closing := coordinator.Close(); closing != nil && !errors.Is(closing, sarama.ErrNotConnected) {
		err = errors.Join(err, closing)
	}
	return errors.Join(err, m.client.RefreshCoordinator(m.group))
}

// Close closes the connections.
func (m *Member) Close() error { return m.client.Close() }
