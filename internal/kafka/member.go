package kafka

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// Member sends what franz-go does not for a member of a consumer group: heartbeats for one who needs to know that they are answered, and
// that a static one leaves.
type Member struct {
	group, instance string
	client          sarama.Client
	id              atomic.Pointer[string] // of the member whose heartbeats were sent last
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
	m.id.Store(&memberID)
	request := &sarama.HeartbeatRequest{Version: 4, GroupId: m.group, MemberId: memberID, GenerationId: generation}
	if m.instance != "" {
		request.GroupInstanceId = &m.instance
	}
	return m.ask("heartbeat of "+memberID, func(coordinator *sarama.Broker) error {
		response, err := coordinator.Heartbeat(request)
		if err == nil && response.Err != sarama.ErrNoError && response.Err != sarama.ErrRebalanceInProgress {
			err = response.Err
		}
		return err
	})
}

// leaveAttempts are made to leave a group: the coordinator of before may be gone.
const leaveAttempts = 3

// Leave takes the member whose heartbeats were sent last out of the group, which gives its partitions to others at once. A group that is closed leaves a
// static one in, for its return. Not being a member is no error: nobody has sent a heartbeat, or the group has given the member up.
func (m *Member) Leave() error {
	id := m.id.Load()
	if id == nil {
		return nil
	}
	// Version 4 is Kafka 2.4's. With both ids it does not concern another process that has come with the same instance id.
	member := sarama.MemberIdentity{MemberId: *id}
	if m.instance != "" {
		member.GroupInstanceId = &m.instance
	}
	request := &sarama.LeaveGroupRequest{Version: 4, GroupId: m.group, Members: []sarama.MemberIdentity{member}}
	var err error
	for range leaveAttempts {
		err = m.ask("leaving of "+*id, func(coordinator *sarama.Broker) error {
			response, err := coordinator.LeaveGroup(request)
			if err == nil && response.Err != sarama.ErrNoError {
				err = response.Err
			}
			if err == nil && len(response.Members) == 1 && response.Members[0].Err != sarama.ErrNoError {
				err = response.Members[0].Err
			}
			if errors.Is(err, sarama.ErrUnknownMemberId) {
				err = nil
			}
			return err
		})
		if err == nil || errors.Is(err, sarama.ErrFencedInstancedId) {
			break
		}
	}
	return err
}

// ask asks the coordinator of the group.
func (m *Member) ask(what string, question func(coordinator *sarama.Broker) error) error {
	coordinator, err := m.client.Coordinator(m.group)
	if err != nil {
		return fmt.Errorf("finding the coordinator of group %s: %w", m.group, err)
	}
	if err = question(coordinator); err == nil {
		return nil
	}
	err = fmt.Errorf("%s in group %s: %w", what, m.group, err)
	// The next one goes to the coordinator of then, on a connection of its own.
	if closing := coordinator.Close(); closing != nil && !errors.Is(closing, sarama.ErrNotConnected) {
		err = errors.Join(err, closing)
	}
	return errors.Join(err, m.client.RefreshCoordinator(m.group))
}

// Close closes the connections.
func (m *Member) Close() error { return m.client.Close() }
