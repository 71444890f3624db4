-- How many bytes each dead letter has, and which user it was accepted for (null if it names none). Only a letter that comes is read
-- as JSON, whoever writes it.
CREATE TABLE letter_sizes (
  seq integer PRIMARY KEY,
  owner text,
  bytes integer NOT NULL
);
CREATE INDEX letter_sizes_of_owner ON letter_sizes (owner, bytes);
INSERT INTO letter_sizes (seq, owner, bytes)
SELECT seq, CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', body ->> '$.body.start.user_id',
  body ->> '$.body.update.owner', body ->> '$.body.end.owner', body ->> '$.body.alive.owner') END, octet_length(body)
FROM dead_letters;

CREATE TRIGGER dead_letter_comes AFTER INSERT ON dead_letters BEGIN
  INSERT OR REPLACE INTO letter_sizes (seq, owner, bytes) VALUES (new.seq, CASE WHEN json_valid(new.body) THEN
    coalesce(new.body ->> '$.body.message.owner', new.body ->> '$.body.start.user_id', new.body ->> '$.body.update.owner',
    new.body ->> '$.body.end.owner', new.body ->> '$.body.alive.owner') END, octet_length(new.body));
END;
CREATE TRIGGER dead_letter_goes AFTER DELETE ON dead_letters BEGIN
  DELETE FROM letter_sizes WHERE seq = old.seq;
END;
