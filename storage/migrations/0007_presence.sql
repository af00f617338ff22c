-- What presence and the unit's clock are judged by: only what did not wait in the broker's queue.

ALTER TABLE unit_status
    ADD COLUMN reported_live bool,        -- whether the newest report came without having waited; null: not known
    ADD COLUMN live_online_at timestamptz; -- newest "online" that came so, by the database's clock

-- Contact times only advance from now on: one that a gateway's clock put into the future would stand still.
UPDATE unit_status
   SET contact_at = least(contact_at, now()), live_contact_at = least(live_contact_at, now())
 WHERE contact_at > now() OR live_contact_at > now();
