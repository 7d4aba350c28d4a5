-- Lengths of strings stand before each string again, in one byte as a rule, and not in a column of 64-bit numbers beside them.
--
-- Attributes are short and a record has three or four of them: the numbers were 24 bytes of each event to compress and, at every
-- merge and read, to take apart again. What the other form is good for, asking for nothing but lengths, no question does.
-- Parts are rewritten as they are merged; both forms are read.
ALTER TABLE events MODIFY SETTING string_serialization_version = 'single_stream';
